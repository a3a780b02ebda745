//! The rows of a batch in the order of their destinations: a counting sort.

use millstream_types::keys;

#[derive(Debug)]
pub(super) struct Sorted {
    max_parallelism: u32,
    /// Destination by key group.
    owners: Vec<u32>,
    /// Destination by row.
    targets: Vec<u32>,
    /// Where the rows of each destination end in `order`.
    ends: Vec<usize>,
    order: Vec<u32>,
}

impl Sorted {
    pub(super) fn new(max_parallelism: u32, destinations: usize) -> Self {
        let parallelism = u32::try_from(destinations).unwrap_or(u32::MAX);
        let owner = |group| keys::subtask(group, parallelism, max_parallelism);
        Self {
            max_parallelism,
            owners: (0..max_parallelism).map(owner).collect(),
            targets: Vec::new(),
            ends: vec![0; destinations],
            order: Vec::new(),
        }
    }

    /// Sorts rows with these hashes. Rows of one destination keep their order.
    pub(super) fn sort(&mut self, hashes: &[u64]) {
        let Self {
            max_parallelism,
            owners,
            targets,
            ends,
            order,
        } = self;
        ends.fill(0);
        targets.clear();
        targets.extend(hashes.iter().map(|hash| {
            let target = owners[keys::key_group(*hash, *max_parallelism) as usize];
            ends[target as usize] += 1;
            target
        }));
        let mut start = 0;
        for end in ends.iter_mut() {
            // Until its rows are placed, it is where the next one goes.
            let count = std::mem::replace(end, start);
            start += count;
        }
        order.clear();
        order.resize(hashes.len(), 0);
        for (row, target) in (0..).zip(targets.iter()) {
            let place = &mut ends[*target as usize];
            order[*place] = row;
            *place += 1;
        }
    }

    /// The rows of a destination.
    pub(super) fn rows(&self, destination: usize) -> &[u32] {
        let start = match destination.checked_sub(1) {
            Some(before) => self.ends[before],
            None => 0,
        };
        &self.order[start..self.ends[destination]]
    }
}
