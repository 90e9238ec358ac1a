//! What a seed decides.

use fastrand::Rng;

/// Chance for one process of a seed. Neighbouring seeds alone give similar first numbers.
pub fn rng(seed: u64, process: u64) -> Rng {
    let mut rng = Rng::with_seed((seed << 8 | process).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    rng.u64(..);
    rng
}

/// When lsfast is away, in transactions that the writers have finished together.
#[derive(Debug, Clone, Copy)]
pub struct Absence {
    pub from: u32,
    pub to: u32,
    pub how: How,
}

/// How lsfast is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// By SIGKILL; then it is started again.
    Killed,
    /// By SIGSTOP, as on a starved host; then it goes on where it was.
    Stopped,
}

/// One run.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub page_size: u32,
    /// Rows that nobody touches after the first image: whoever uploads their pages again uploaded
    /// too much.
    pub cold_rows: u32,
    pub writers: usize,
    /// One writer and nobody else, with no patience: whatever it has to wait for is the fault of
    /// lsfast.
    pub alone: bool,
    /// Transactions of each writer.
    pub transactions: u32,
    /// Whether a process issues checkpoints of all modes all the time.
    pub checkpointer: bool,
    /// Whether the writers run VACUUM now and then.
    pub vacuums: bool,
    pub sync_interval: &'static str,
    /// When lsfast starts.
    pub start_at: u32,
    /// In order of time, not overlapping.
    pub absences: Vec<Absence>,
}

impl Plan {
    pub fn new(seed: u64) -> Plan {
        let mut rng = rng(seed, 0);
        let writers = 2;
        let transactions = rng.u32(300..1500);
        let total = transactions * writers as u32;
        let start_at = if rng.bool() { 0 } else { rng.u32(..total / 4) };
        let mut points: Vec<u32> = (0..2 * rng.usize(0..8)).map(|_| rng.u32(start_at..total)).collect();
        points.sort_unstable();
        let absences = points.chunks_exact(2).map(|p| {
            // A stop long enough to matter and short enough to come often.
            let (how, to) =
                if rng.bool() { (How::Killed, p[1]) } else { (How::Stopped, p[1].min(p[0] + 40)) };
            Absence { from: p[0], to, how }
        });
        let absences = absences.collect();
        Plan {
            seed,
            page_size: *rng.choice(&[512, 1024, 4096]).expect("not empty"),
            cold_rows: rng.u32(50..400),
            writers,
            alone: false,
            transactions,
            checkpointer: rng.u8(..10) < 8,
            vacuums: rng.bool(),
            sync_interval: rng.choice(["0s", "20ms", "1s"]).expect("not empty"),
            start_at,
            absences,
        }
    }

    /// The same for one writer alone.
    pub fn alone(seed: u64) -> Plan {
        let mut plan = Plan::new(seed);
        // The writer is there first and stays, so that opening and recovery are nobody's
        // business but its
        // own.
        plan.start_at = plan.start_at.clamp(1, plan.transactions / 2);
        plan.absences.retain(|absence| absence.from < plan.transactions);
        Plan { writers: 1, alone: true, checkpointer: false, ..plan }
    }
}
