//! What files look like from outside, to tell without reading them whether they changed.
//!
//! They are looked at every few seconds. Notifications of the system would come sooner, but not from every file system, and
//! for files behind links, such as those of a Kubernetes `ConfigMap`, whose link is swapped, they must be set up anew each
//! time. A look follows links, so it sees such a swap as any other change.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Which file it is, when it was written and how long it is; `None` if it is not there.
type Look = Option<(u64, SystemTime, u64)>;

/// Files and what they looked like.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Looks(Vec<(PathBuf, Look)>);

impl Looks {
    pub fn of(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut looks = Self::default();
        paths.into_iter().for_each(|path| looks.add(path));
        looks
    }

    pub fn add(&mut self, path: PathBuf) {
        let look = look(&path);
        self.0.push((path, look));
    }

    /// Whether the files look like that still.
    pub fn hold(&self) -> bool {
        self.0.iter().all(|(path, seen)| look(path) == *seen)
    }
}

fn look(path: &Path) -> Look {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.modified().ok()?, metadata.len()))
}

/// Tells when files have changed and whoever wrote them has finished.
#[derive(Debug, Default)]
pub struct Watch {
    /// When they were last read.
    read: Looks,
    /// A moment ago.
    last: Looks,
}

impl Watch {
    /// The files were read when they looked like this.
    pub fn note(&mut self, looks: Looks) {
        self.read = looks;
    }

    /// Whether they differ from what was read, and did so a moment ago.
    pub fn is_due(&mut self, now: Looks) -> bool {
        let is_due = now != self.read && now == self.last;
        self.last = now;
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_due_once_it_stands_still() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let look = || Looks::of([path.clone()]);
        let mut watch = Watch::default();
        watch.note(look());
        assert!(!watch.is_due(look()));
        std::fs::write(&path, "one").unwrap();
        assert!(!watch.is_due(look()), "perhaps it is being written");
        std::fs::write(&path, "one two").unwrap();
        assert!(!watch.is_due(look()), "it was");
        assert!(watch.is_due(look()));
        assert!(watch.is_due(look()), "nobody has read it yet");
        watch.note(look());
        assert!(!watch.is_due(look()));
        std::fs::remove_file(&path).unwrap();
        assert!(!watch.is_due(look()));
        assert!(watch.is_due(look()), "gone is a change too");
    }

    #[test]
    fn a_swapped_link_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name).join("file"), name).unwrap();
        }
        let link = |to: &str| {
            std::os::unix::fs::symlink(to, folder.path().join("new")).unwrap();
            std::fs::rename(folder.path().join("new"), folder.path().join("data")).unwrap();
        };
        link("a");
        let seen = Looks::of([folder.path().join("data/file")]);
        assert!(seen.hold());
        link("b");
        assert!(!seen.hold());
    }
}
