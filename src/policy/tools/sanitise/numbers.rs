//! Finds numbers of payment cards and bank accounts by their checksums, and e-mail addresses.

use std::ops::Range;

use crate::policy::tools::sanitise::runs::ByteClass;

/// The lengths of card numbers, in digits.
const CARD_LENS: Range<usize> = 14..20;
/// Which bytes a card number may have: digits, and what groups them.
static CARD_BYTES: ByteClass = ByteClass::digits_and(b" -");
/// The maximum lengths of the parts of an e-mail address, in bytes (RFC 5321 section 4.5.3.1).
const LOCAL_LEN_MAX: usize = 64;
const DOMAIN_LEN_MAX: usize = 255;

/// Calls `found` for each card number in a text (ISO/IEC 7812). Digits may be grouped, with one space or hyphen between groups.
pub(super) fn cards(text: &[u8], mut found: impl FnMut(Range<usize>)) {
    let mut at = 0;
    // Most texts have no run of digits and separators that is long enough.
    while let Some(run) = CARD_BYTES.next_run(text, at, CARD_LENS.start) {
        at = run.end;
        cards_within(text, run, &mut found);
    }
}

/// Calls `found` for each card number that begins in this range.
fn cards_within(text: &[u8], range: Range<usize>, found: &mut impl FnMut(Range<usize>)) {
    let mut at = range.start;
    while at < range.end {
        if !text[at].is_ascii_digit() || at > 0 && text[at - 1].is_ascii_alphanumeric() {
            at += 1;
            continue;
        }
        match card_at(&text[at..]) {
            Some(len) => {
                found(at..at + len);
                at += len;
            }
            // A card number does not start within a group of digits.
            None => at += text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count(),
        }
    }
}

/// The length of the longest card number at the start.
fn card_at(text: &[u8]) -> Option<usize> {
    let (mut digits, mut len, mut at, mut longest) = ([0u8; CARD_LENS.end], 0, 0, None);
    while let Some(byte) = text.get(at) {
        if byte.is_ascii_digit() {
            if len + 1 == CARD_LENS.end {
                break;
            }
            digits[len] = byte - b'0';
            len += 1;
            let ends = !text.get(at + 1).is_some_and(u8::is_ascii_alphanumeric);
            if ends && is_card(&digits[..len]) {
                longest = Some(at + 1);
            }
        } else if !matches!(byte, b' ' | b'-') || !text.get(at + 1).is_some_and(u8::is_ascii_digit) {
            break;
        }
        at += 1;
    }
    longest
}

/// Whether the digits are a card number, by issuer, length and checksum.
pub(super) fn is_card(digits: &[u8]) -> bool {
    if !CARD_LENS.contains(&digits.len()) {
        return false;
    }
    let first = |len: usize| digits[..len].iter().fold(0u32, |number, digit| number * 10 + u32::from(*digit));
    let fits = matches!(
        (first(2), first(4), digits.len()),
        (_, 2_221..=2_720, 16)
            | (51..=55, _, 16)
            | (40..=49, _, 16 | 19)
            | (34 | 37, _, 15)
            | (36 | 38 | 39, _, 14)
            | (_, 3_000..=3_059, 14)
            | (_, 3_528..=3_589, 16)
            | (65, _, 16)
            | (_, 6_011 | 6_440..=6_499, 16)
            | (62, _, 16..=19)
    );
    let doubled = |digit: u8| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let sum = |(at, digit): (usize, &u8)| u32::from(if at % 2 == 1 { doubled(*digit) } else { *digit });
    fits && digits.iter().rev().enumerate().map(sum).sum::<u32>() % 10 == 0
}

/// The length of an IBAN by country (ISO 13616): two letters and two digits each.
const IBAN_LENS: &[u8] =
    b"AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29ES24FI18FK18FO18FR27\
    GB22GE22GI23GL18GR27GT28HN28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21LY25MC27MD24ME22\
    MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27SO23ST25SV28\
    TL23TN24TR26UA29VA22VG24XK20YE30";

/// Calls `found` for each IBAN in a text (ISO 13616). It may be grouped, with one space between groups.
pub(super) fn ibans(text: &[u8], mut found: impl FnMut(Range<usize>)) {
    let (words, rest) = text.as_chunks::<WORD_LEN>();
    let mut last = [0; WORD_LEN];
    last[..rest.len()].copy_from_slice(rest);
    let mut from = 0;
    let mut look_at = |word: &[u8; WORD_LEN], start: usize| {
        let mut digits = first_digits(*word);
        while digits != 0 {
            // Two letters come before the first digit.
            let digit = start + digits.trailing_zeros() as usize / 8;
            digits &= digits - 1;
            if let Some(at) = digit.checked_sub(2).filter(|at| *at >= from && text[digit - 1].is_ascii_alphabetic())
                && let Some(len) = iban_at(text, at)
            {
                found(at..at + len);
                from = at + len;
            }
        }
    };
    words.iter().enumerate().for_each(|(nth, word)| look_at(word, nth * WORD_LEN));
    look_at(&last, words.len() * WORD_LEN);
}

/// How many bytes are looked at together.
const WORD_LEN: usize = size_of::<u64>();

/// The first digits of groups: the highest bit of each byte that is a digit and not behind another one of the word.
fn first_digits(word: [u8; WORD_LEN]) -> u64 {
    const fn each(byte: u8) -> u64 {
        u64::from_le_bytes([byte; WORD_LEN])
    }
    // A digit becomes a number below ten. No byte carries into the next.
    let numbers = u64::from_le_bytes(word) ^ each(b'0');
    let others = ((numbers & each(0x7f)) + each(0x80 - 10)) | numbers;
    let digits = !others & each(0x80);
    digits & !(digits << 8)
}

/// The length of the IBAN that begins here.
fn iban_at(text: &[u8], start: usize) -> Option<usize> {
    let begins = start == 0 || !text[start - 1].is_ascii_alphanumeric();
    let text = &text[start..];
    let [first, second, third, fourth, ..] = text else { return None };
    let is_country = first.is_ascii_alphabetic() && second.is_ascii_alphabetic();
    if !begins || !is_country || !third.is_ascii_digit() || !fourth.is_ascii_digit() {
        return None;
    }
    let country = [first.to_ascii_uppercase(), second.to_ascii_uppercase()];
    let entry = IBAN_LENS.chunks(4).find(|entry| entry[..2] == country)?;
    let want = entry[2..].iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
    let (mut chars, mut len, mut at) = ([0u8; 34], 0, 0);
    while len < want {
        let byte = *text.get(at)?;
        if byte.is_ascii_alphanumeric() {
            chars[len] = byte.to_ascii_uppercase();
            len += 1;
        } else if byte != b' ' || text.get(at + 1) == Some(&b' ') {
            return None;
        }
        at += 1;
    }
    if text.get(at).is_some_and(u8::is_ascii_alphanumeric) {
        return None;
    }
    // ISO 7064, MOD 97-10: the first four characters move to the end, and a letter counts as two digits.
    let turned = chars[4..len].iter().chain(&chars[..4]);
    let rest = turned.fold(0u32, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        _ => (rest * 100 + u32::from(byte - b'A') + 10) % 97,
    });
    (rest == 1).then_some(at)
}

/// Calls `found` for each e-mail address in a text.
pub(super) fn emails(text: &[u8], mut found: impl FnMut(Range<usize>)) {
    let is_local = |byte: &u8| byte.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(byte);
    let is_domain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let mut from = 0;
    for at in memchr::memchr_iter(b'@', text) {
        let before = &text[from.max(at.saturating_sub(LOCAL_LEN_MAX))..at];
        let behind = &text[at + 1..text.len().min(at + 1 + DOMAIN_LEN_MAX)];
        let local = before.iter().rev().take_while(|byte| is_local(byte)).count();
        let domain = behind.iter().take_while(|byte| is_domain(byte)).count();
        let domain = behind[..domain].iter().rposition(u8::is_ascii_alphabetic).map_or(0, |last| last + 1);
        let has_dot = behind[..domain].iter().skip(1).any(|byte| *byte == b'.');
        if local > 0 && has_dot && behind[0].is_ascii_alphanumeric() {
            from = at + 1 + domain;
            found(at - local..from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    /// Texts of digits in groups, some of them cards and bank accounts, or almost.
    fn any_text(rng: &mut Rng) -> String {
        const PARTS: [&str; 14] = [
            "4111 1111 1111 1111",
            "378282246310005",
            "4111-1111-1111-111",
            "36148900647913",
            "DE89370400440532013000",
            "NO93 8601 1117 947",
            "gb82",
            "WEST12345698765432",
            "the order 2026-07-28 ",
            " ",
            "-",
            "  ",
            "x",
            "\u{e9}",
        ];
        let part = |rng: &mut Rng| match rng.below(3) {
            0 => rng.below(10_000).to_string(),
            _ => PARTS[rng.below(PARTS.len() as u64) as usize].to_owned(),
        };
        (0..rng.below(9)).map(|_| part(rng)).collect()
    }

    /// Cards and bank accounts, looked for at each byte.
    fn at_each_byte(text: &[u8]) -> [Vec<Range<usize>>; 2] {
        let (mut cards, mut ibans, mut at) = (Vec::new(), Vec::new(), 0);
        cards_within(text, 0..text.len(), &mut |range| cards.push(range));
        while at < text.len() {
            let len = iban_at(text, at);
            ibans.extend(len.map(|len| at..at + len));
            at += len.unwrap_or(1);
        }
        [cards, ibans]
    }

    #[test]
    fn what_is_skipped_holds_no_number() {
        let (rng, mut seen) = (&mut Rng::new(13), [0, 0]);
        for _ in 0..5_000 {
            let text = any_text(rng);
            let mut found = [Vec::new(), Vec::new()];
            cards(text.as_bytes(), |range| found[0].push(range));
            ibans(text.as_bytes(), |range| found[1].push(range));
            assert_eq!(found, at_each_byte(text.as_bytes()), "{text:?}");
            seen = [seen[0] + found[0].len(), seen[1] + found[1].len()];
        }
        assert!(seen.iter().all(|count| *count > 250), "{seen:?}");
    }
}
