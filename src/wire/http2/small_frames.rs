/// A DATA frame shorter than this costs the difference, about what its bookkeeping takes, which flow control does not
/// count. The budget of `h2` uses the same value.
const FRAME_LEN_CHEAP: usize = 256;

/// The cost of small DATA frames that wait to be read, by stream.
#[derive(Debug)]
pub(super) struct SmallFrames {
    /// The most that one stream may cost.
    stream_max: usize,
    /// The most that all streams may cost together.
    total_max: usize,
    total: usize,
    /// The streams with a cost: never more than are open at the same time.
    streams: Vec<(u32, usize)>,
}

impl SmallFrames {
    pub(super) fn new(stream_max: usize, total_max: usize) -> SmallFrames {
        SmallFrames { stream_max, total_max, total: 0, streams: Vec::new() }
    }

    /// Counts a received frame with `len` bytes of a body.
    pub(super) fn received(&mut self, stream: u32, len: usize) {
        let cost = cost_of(len);
        if cost == 0 {
            return;
        }
        self.total += cost;
        match self.streams.iter_mut().find(|(of, _)| *of == stream) {
            Some((_, all)) => *all += cost,
            None => self.streams.push((stream, cost)),
        }
    }

    /// Counts a frame of this length as read.
    pub(super) fn read(&mut self, stream: u32, len: usize) {
        let Some(at) = self.streams.iter().position(|(of, _)| *of == stream) else { return };
        let cost = cost_of(len).min(self.streams[at].1);
        self.total -= cost;
        self.streams[at].1 -= cost;
        if self.streams[at].1 == 0 {
            self.streams.swap_remove(at);
        }
    }

    /// Removes a stream of which nothing waits any more.
    pub(super) fn forget(&mut self, stream: u32) {
        if let Some(at) = self.streams.iter().position(|(of, _)| *of == stream) {
            self.total -= self.streams.swap_remove(at).1;
        }
    }

    /// The cost of a stream's unread frames.
    pub(super) fn cost(&self, stream: u32) -> usize {
        self.streams.iter().find(|(of, _)| *of == stream).map_or(0, |(_, cost)| *cost)
    }

    /// The stream with the highest cost, if it or all together exceed their limit.
    pub(super) fn flood(&self) -> Option<u32> {
        let (stream, cost) = *self.streams.iter().max_by_key(|(_, cost)| *cost)?;
        (cost > self.stream_max || self.total > self.total_max).then_some(stream)
    }
}

fn cost_of(len: usize) -> usize {
    if len == 0 { 0 } else { FRAME_LEN_CHEAP.saturating_sub(len) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_that_costs_most_is_named_when_it_or_all_cost_too_much() {
        let mut frames = SmallFrames::new(1_000, 2_500);
        for _ in 0..3 {
            frames.received(1, 1);
        }
        frames.received(3, 256);
        frames.received(3, 0);
        assert_eq!((frames.flood(), frames.streams.len()), (None, 1));
        frames.received(1, 1);
        assert_eq!(frames.flood(), Some(1), "1,020");
        frames.read(1, 1);
        assert_eq!((frames.flood(), frames.total), (None, 765));
        for stream in [3, 5] {
            (0..3).for_each(|_| frames.received(stream, 6));
        }
        assert_eq!((frames.flood(), frames.total), (None, 2_265));
        frames.received(5, 6);
        assert_eq!(frames.flood(), Some(5), "all together");
        frames.forget(5);
        assert_eq!((frames.flood(), frames.total), (None, 1_515));
        (0..9).for_each(|_| frames.read(3, 6));
        frames.forget(1);
        assert_eq!((frames.total, frames.streams.len()), (0, 0));
    }
}
