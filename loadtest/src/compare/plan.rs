//! The order of the measurements.

/// One measurement: a round, a workload and a peer, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) round: usize,
    pub(crate) workload: usize,
    pub(crate) peer: usize,
}

/// All measurements in order. Peers alternate within a round, so that disturbances of the machine affect all of them.
/// Every other round is reversed, so that no peer always follows the same one.
pub(crate) fn cells(rounds: usize, workloads: usize, peers: usize) -> Vec<Cell> {
    let mut cells = Vec::with_capacity(rounds * workloads * peers);
    for round in 0..rounds {
        for step in 0..workloads * peers {
            let step = if round % 2 == 0 { step } else { workloads * peers - 1 - step };
            cells.push(Cell { round, workload: step / peers, peer: step % peers });
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_alternate_and_every_other_round_is_reversed() {
        let order: Vec<(usize, usize, usize)> =
            cells(3, 2, 2).iter().map(|cell| (cell.round, cell.workload, cell.peer)).collect();
        let forwards = [(0, 0), (0, 1), (1, 0), (1, 1)];
        let mut expected = Vec::new();
        expected.extend(forwards.map(|(workload, peer)| (0, workload, peer)));
        expected.extend(forwards.iter().rev().map(|(workload, peer)| (1, *workload, *peer)));
        expected.extend(forwards.map(|(workload, peer)| (2, workload, peer)));
        assert_eq!(order, expected);
    }

    #[test]
    fn nothing_to_do_is_no_cell() {
        assert!(cells(3, 2, 0).is_empty());
        assert!(cells(0, 2, 2).is_empty());
    }
}
