/// An error that may repeat. It is logged only when it begins and when it ends.
#[derive(Debug, Default)]
pub struct Trouble(bool);

impl Trouble {
    /// Records a failure. Returns whether it is the first in a row.
    pub fn begins(&mut self) -> bool {
        !std::mem::replace(&mut self.0, true)
    }

    /// Records a success. Returns whether it ends a failure.
    pub fn ends(&mut self) -> bool {
        std::mem::take(&mut self.0)
    }

    /// Whether the last attempt failed.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0
    }
}
