use super::fault::Fault;

/// The most credit that a side may hold, in bytes: more is a fault, and every sum stays within a `u32`.
pub const CREDIT_MAX: u32 = i32::MAX as u32;

/// The bytes that this side may still send, on a stream or on the link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Credit {
    left: u32,
    /// The size of the peer's window, as last received.
    size: u32,
}

impl Credit {
    pub(super) fn new(size: u32) -> Credit {
        Credit { left: size, size }
    }

    pub(super) fn size(self) -> u32 {
        self.size
    }

    pub(super) fn set_size(&mut self, size: u32) {
        self.size = size;
    }

    pub(super) fn left(self) -> usize {
        self.left as usize
    }

    /// Subtracts `n` bytes. The caller has checked [`left`](Credit::left) before.
    pub(super) fn spend(&mut self, n: usize) {
        debug_assert!(n <= self.left());
        self.left = self.left.saturating_sub(n as u32);
    }

    pub(super) fn add(&mut self, n: u32) -> Result<(), Fault> {
        if n == 0 {
            return Err(Fault::CreditZero);
        }
        self.left = self.left.checked_add(n).filter(|sum| *sum <= CREDIT_MAX).ok_or(Fault::CreditOverflow)?;
        Ok(())
    }
}

/// The bytes that the peer may still send. Each byte of the window is in exactly one of three states: `left` (the peer
/// may send it), `held` (received and not consumed by the application), `owed` (consumed, and not yet returned to the
/// peer by CREDIT).
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    size: u32,
    left: u32,
    held: u32,
    owed: u32,
}

impl Window {
    pub(super) fn new(size: u32) -> Window {
        Window { size, left: size, held: 0, owed: 0 }
    }

    pub(super) fn size(&self) -> u32 {
        self.size
    }

    pub(super) fn left(&self) -> u32 {
        self.left
    }

    pub(super) fn held(&self) -> u32 {
        self.held
    }

    pub(super) fn owed(&self) -> u32 {
        self.owed
    }

    /// Counts `n` received bytes; returns false if the peer had no credit for them.
    pub(super) fn receive(&mut self, n: u32) -> bool {
        let fits = n <= self.left;
        if fits {
            self.left -= n;
            self.held += n;
        }
        fits
    }

    /// Counts `n` bytes that the application consumed, at most what is held; returns how many were counted.
    pub(super) fn consume(&mut self, n: u32) -> u32 {
        let n = n.min(self.held);
        self.held -= n;
        self.owed += n;
        n
    }

    /// Whether to return credit now: half of the window is owed, or the peer has no more left than it is owed.
    ///
    /// The second rule is for an application that does not consume some bytes for long. Half of the rest is then less
    /// than half of the window, and without the rule the peer would stop for ever.
    pub(super) fn is_due(&self) -> bool {
        self.owed > 0 && (self.owed >= self.size / 2 || self.owed >= self.left)
    }

    /// Like [`is_due`](Window::is_due), for the window of a stream. On a tight link, `share` is the stream's share: a
    /// stream that holds nothing then owes nothing, and one that holds something owes at most half of its share.
    pub(super) fn is_due_beside(&self, share: Option<u32>) -> bool {
        let is_due_early = |share: u32| self.owed > 0 && (self.held == 0 || self.owed >= share / 2);
        self.is_due() || share.is_some_and(is_due_early)
    }

    /// Like [`is_due`](Window::is_due), for the window of a link, which the peer's streams share. Credit is returned in
    /// small steps, because saving it up would reduce the shares.
    pub(super) fn is_due_on_link(&self) -> bool {
        self.is_due() || self.owed > self.size / 16
    }

    /// Enlarges the window, or shrinks it as far as possible now. Only owed bytes can be withheld, and only half of
    /// them, so that the rest announces the new size to the peer. Growth is added to what is owed.
    pub(super) fn resize(&mut self, size: u32) {
        if size > self.size {
            self.owed += size - self.size;
            self.size = size;
        } else {
            let kept = (self.owed / 2).min(self.size - size);
            self.owed -= kept;
            self.size -= kept;
        }
    }

    /// Returns all owed credit; the caller sends it to the peer.
    pub(super) fn grant(&mut self) -> u32 {
        let n = std::mem::take(&mut self.owed);
        self.left += n;
        n
    }

    #[cfg(test)]
    pub(super) fn is_whole(&self) -> bool {
        self.left + self.held + self.owed == self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    #[test]
    fn credit_has_a_floor_and_a_ceiling() {
        let mut credit = Credit::new(10);
        credit.spend(10);
        assert_eq!(credit.left(), 0);
        assert_eq!(credit.add(0), Err(Fault::CreditZero));
        assert_eq!(credit.add(CREDIT_MAX), Ok(()));
        assert_eq!(credit.add(1), Err(Fault::CreditOverflow));
        assert_eq!(credit.add(u32::MAX), Err(Fault::CreditOverflow));
    }

    #[test]
    fn credit_is_returned_lazily_but_before_the_peer_stalls() {
        let mut window = Window::new(100);
        assert!(window.receive(40));
        assert_eq!(window.consume(40), 40);
        assert!(!window.is_due());
        assert!(window.receive(10));
        window.consume(10);
        assert!(window.is_due());
        assert_eq!(window.grant(), 50);
        assert!(window.receive(90));
        assert_eq!(window.consume(10), 10);
        assert!(window.is_due(), "10 owed, 10 left: half of the window would never be owed while 80 are held");
    }

    #[test]
    fn no_byte_of_a_window_is_lost() {
        let mut rng = Rng::new(11);
        let mut window = Window::new(1_000);
        for _ in 0..10_000 {
            let n = rng.below(300) as u32;
            match rng.below(4) {
                0 => {
                    let fits = n <= window.left();
                    assert_eq!(window.receive(n), fits);
                }
                1 => assert!(window.consume(n) <= n),
                2 => {
                    let (before, wanted) = (window.size(), n * 10);
                    window.resize(wanted);
                    assert!((wanted.min(before)..=wanted.max(before)).contains(&window.size()));
                }
                _ if window.is_due() => assert!(window.grant() > 0),
                _ => {}
            }
            assert!(window.is_whole());
        }
    }
}
