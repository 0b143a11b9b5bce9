//! Compact lists of numbers (LEB128).

/// Appends a number to a list.
pub(super) fn push(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Reads the numbers of a list, up to the first malformed one.
pub(super) fn read(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, behind) = rest.split_first()?;
            rest = behind;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    })
}

/// Encodes ascending numbers as differences.
pub(super) fn write_ascending(numbers: &[u32]) -> Vec<u8> {
    let (mut out, mut before) = (Vec::with_capacity(numbers.len()), 0);
    for number in numbers {
        push(&mut out, u64::from(number.wrapping_sub(before)));
        before = *number;
    }
    out
}

/// Decodes the result of [`write_ascending`].
pub(super) fn read_ascending(bytes: &[u8]) -> Vec<u32> {
    let mut before = 0_u32;
    read(bytes)
        .map(|step| {
            before = before.wrapping_add(step as u32);
            before
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_were_written() {
        for numbers in [vec![], vec![0], vec![0, 1, 127, 128, 129, 20_000, u32::MAX]] {
            assert_eq!(read_ascending(&write_ascending(&numbers)), numbers);
        }
        let mut out = Vec::new();
        [0, 127, 128, u64::MAX].iter().for_each(|number| push(&mut out, *number));
        assert_eq!(read(&out).collect::<Vec<_>>(), [0, 127, 128, u64::MAX]);
        assert_eq!(read(&[0x80]).next(), None);
        assert_eq!(read(&[0xff; 12]).next(), None);
    }
}
