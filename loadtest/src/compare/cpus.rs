//! The CPUs on which each process runs.

use std::fmt;
use std::str::FromStr;

/// A list of CPU numbers, in order and without duplicates; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CpuList(Vec<usize>);

/// The error for an invalid list of CPUs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a valid list of CPUs: write numbers and ranges, such as 1 or 0,2-3")]
pub(crate) struct CpuListError(String);

/// The CPUs of load and peer. The processes under test must not share a CPU with the generator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The CPUs of generator and upstream.
    pub(crate) load: Option<CpuList>,
    /// The CPUs of all processes of the peer.
    pub(crate) peer: Option<CpuList>,
}

/// The highest CPU number that is accepted.
const CPU_MAX: usize = 4095;

impl CpuList {
    pub(crate) fn one(cpu: usize) -> Self {
        Self(vec![cpu])
    }

    /// The numbers of the CPUs.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().copied()
    }

    /// The number of CPUs in the list.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}

impl FromStr for CpuList {
    type Err = CpuListError;

    fn from_str(text: &str) -> Result<Self, CpuListError> {
        let fault = || CpuListError(text.to_owned());
        let number = |text: &str| text.parse().ok().filter(|cpu| *cpu <= CPU_MAX).ok_or_else(fault);
        let mut cpus: Vec<usize> = Vec::new();
        for part in text.split(',') {
            match part.split_once('-') {
                Some((first, last)) => cpus.extend(number(first)?..=number(last)?),
                None => cpus.push(number(part)?),
            }
        }
        cpus.sort_unstable();
        cpus.dedup();
        if cpus.is_empty() { Err(fault()) } else { Ok(Self(cpus)) }
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, cpu) in self.0.iter().enumerate() {
            write!(f, "{}{cpu}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl Layout {
    /// The requested CPUs; by default the last of the `allowed` ones for the peer and the first for the load. With one
    /// CPU, or without pinning, nothing is pinned.
    pub(crate) fn new(load: Option<CpuList>, peer: Option<CpuList>, pin: bool, allowed: &[usize]) -> Self {
        if !pin {
            return Self { load: None, peer: None };
        }
        let (first, last) = match allowed {
            [first, .., last] => (Some(CpuList::one(*first)), Some(CpuList::one(*last))),
            _ => (None, None),
        };
        Self { load: load.or(first), peer: peer.or(last) }
    }

    /// The CPU of the generator: the first of the CPUs for load.
    pub(crate) fn generator(&self) -> Option<usize> {
        self.load.as_ref().and_then(|cpus| cpus.iter().next())
    }

    /// The CPUs of the upstream: the other ones, if there are any.
    pub(crate) fn upstream(&self) -> Option<CpuList> {
        let others = self.load.as_ref()?.iter().skip(1).collect::<Vec<usize>>();
        if others.is_empty() { self.load.clone() } else { Some(CpuList(others)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Result<String, CpuListError> {
        text.parse::<CpuList>().map(|cpus| cpus.to_string())
    }

    #[test]
    fn lists_of_cpus_are_read() {
        assert_eq!(list("1").as_deref(), Ok("1"));
        assert_eq!(list("3,0-1,1").as_deref(), Ok("0,1,3"));
        for text in ["", "a", "1,", "-", "3-1", "1-", "99999999999999999999", "0-4096"] {
            assert!(list(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_peer_shares_no_cpu_with_the_generator() {
        let layout = |allowed: &[usize]| Layout::new(None, None, true, allowed);
        assert_eq!(layout(&[0, 1]), Layout { load: Some(CpuList::one(0)), peer: Some(CpuList::one(1)) });
        assert_eq!(layout(&[2, 3, 5]), Layout { load: Some(CpuList::one(2)), peer: Some(CpuList::one(5)) });
        assert_eq!(layout(&[0]), Layout { load: None, peer: None });
        let asked = Layout::new(None, Some(CpuList::one(2)), true, &[0, 1, 2, 3]);
        assert_eq!(asked, Layout { load: Some(CpuList::one(0)), peer: Some(CpuList::one(2)) });
        let three = Layout::new("0,2-3".parse().ok(), None, true, &[0, 1, 2, 3]);
        assert_eq!((three.generator(), three.upstream()), (Some(0), "2,3".parse().ok()));
        assert_eq!((layout(&[0, 1]).generator(), layout(&[0, 1]).upstream()), (Some(0), Some(CpuList::one(0))));
        assert_eq!(Layout::new(None, Some(CpuList::one(2)), false, &[0, 1]), Layout { load: None, peer: None });
    }
}
