//! What goes wrong, and in which order: by the seed.

use std::time::Duration;

use aadstream::demo::random::Random;

/// Processes that share the group at most.
pub const INSTANCES: usize = 3;
/// Brokers of the cluster.
pub const BROKERS: usize = 3;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// SIGKILL, and another process in its place.
    Kill(usize),
    /// SIGTERM, and another process in its place.
    Replace(usize),
    /// SIGTERM; its partitions go to the others. Where it is away it comes back.
    LeaveOrJoin(usize),
    /// The broker stops, or comes back with what it has on disk. Its partitions get other leaders, and later it leads again.
    StopOrStart(usize),
    /// The broker gets a tenth of the time for so long.
    Slow(usize, Duration),
    /// The output topic takes nothing until the next fault that is not a kill.
    OutputAway,
    /// Messages that nobody has read are deleted from the last partition.
    DeleteRecords,
    /// The instance's wall clock jumps to so many hours ahead of that of the machine, or behind. It keeps that over
    /// restarts until it jumps again.
    Clock(usize, i64),
}

/// A fault, and how long messages flow in peace before it.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub after: Duration,
    pub fault: Fault,
}

/// So many kills with other faults between them, each kind at least once where there is room, and a clock that jumps in
/// front of every other kill: forward, back, or to the time of the machine.
pub fn plan(seed: u64, kills: usize) -> Vec<Step> {
    let mut random = Random::new(seed);
    let mut others = Vec::new();
    let mut steps = Vec::new();
    let mut clocks = Random::new(seed.wrapping_add(1));
    for kill in 0..kills {
        if kill % 2 == 0 {
            steps.push(Step { after: Duration::ZERO, fault: jump(&mut clocks) });
        }
        let mut faults = vec![Fault::Kill(random.below(INSTANCES))];
        if others.is_empty() {
            others = round(&mut random);
        }
        faults.extend(others.pop());
        steps.extend(
            faults
                .into_iter()
                .map(|fault| Step { after: Duration::from_millis(300 + random.number() % 2500), fault }),
        );
    }
    steps
}

/// Every other kind, shuffled.
fn round(random: &mut Random) -> Vec<Fault> {
    let (broker, instance) = (random.below(BROKERS), random.below(INSTANCES));
    let mut faults = vec![
        Fault::Replace(random.below(INSTANCES)),
        Fault::LeaveOrJoin(instance),
        Fault::LeaveOrJoin(instance),
        Fault::StopOrStart(broker),
        Fault::StopOrStart(broker),
        Fault::Slow(random.below(BROKERS), Duration::from_millis(1000 + random.number() % 2000)),
        Fault::OutputAway,
        Fault::DeleteRecords,
    ];
    for last in (1..faults.len()).rev() {
        faults.swap(last, random.below(last + 1));
    }
    faults
}

fn jump(random: &mut Random) -> Fault {
    let (instance, hours) = (random.below(INSTANCES), 1 + (random.number() % 72).cast_signed());
    Fault::Clock(instance, [hours, -hours, -hours, 0][random.below(4)])
}
