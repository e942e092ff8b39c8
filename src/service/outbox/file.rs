//! Dead letters in a file: JSON lines that only their owner can read.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::desk::Returned;
use super::letter::{Content, Letter, Paper};

/// Its owner reads and writes, nobody else does: the letters hold what the log held.
const MODE: u32 = 0o600;

/// A file that grows by whole lines.
pub struct File {
    path: PathBuf,
    file: Mutex<fs::File>,
}

impl File {
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot write dead letters to {} ([dead_letters] file)", path.display());
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).mode(MODE).open(path).with_context(cannot)?;
        // A device or a pipe has no bytes to take back and no mode of ours.
        anyhow::ensure!(
            file.metadata().with_context(cannot)?.is_file(),
            "{}: it is no regular file",
            cannot()
        );
        file.set_permissions(Permissions::from_mode(MODE)).with_context(cannot)?;
        end_last_line(&file).with_context(cannot)?;
        Ok(Self { path: path.to_owned(), file: Mutex::new(file) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a line a letter and waits until the disk has them; on an error none of them stands in the file.
    pub fn append(&self, letters: &[Returned]) -> io::Result<()> {
        let mut text = String::new();
        for Returned { letter, paper, .. } in letters {
            text.push_str(&line(letter, paper));
            text.push('\n');
        }
        let mut file = self.file.lock().expect("no code panics while it holds this lock");
        let length = file.metadata()?.len();
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_data());
        if written.is_err() {
            file.set_len(length)?;
        }
        written
    }
}

/// A crash may have left half a line behind.
fn end_last_line(mut file: &fs::File) -> io::Result<()> {
    if file.metadata()?.len() == 0 {
        return Ok(());
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    if last == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
}

fn line(letter: &Letter, paper: &Paper<'_>) -> String {
    let Content::Dead { reason, .. } = letter.content else { unreachable!("events go to a topic") };
    let mut object = json!({
        "schema": 1,
        "reason": reason,
        "topic": letter.topic(),
        "partition": letter.partition,
        "offset": letter.offset,
    });
    if let Some(index) = letter.index {
        object["index"] = index.into();
    }
    for (key, bytes) in [("key", &paper.key), ("payload", &paper.body)] {
        if let Some(bytes) = bytes {
            object[key] = STANDARD.encode(bytes).into();
        }
    }
    object.to_string()
}
