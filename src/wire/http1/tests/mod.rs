//! The codec as a whole: tables of heads, every cut of every message, round trips and mutations from fixed seeds.

use super::*;
use crate::base::Rng;

mod bodies;
mod fuzz;
mod heads;
mod rewriting;

/// Feeds the pieces one after another; returns the result, with the length of the head in all pieces.
fn feed_request(head: &mut RequestHead, pieces: &[&[u8]]) -> Result<Progress, HeadError> {
    feed(pieces, |piece| head.feed(piece))
}

fn feed_response(head: &mut ResponseHead, pieces: &[&[u8]], method: Method) -> Result<Progress, HeadError> {
    feed(pieces, |piece| head.feed(piece, method))
}

fn feed(pieces: &[&[u8]], mut one: impl FnMut(&[u8]) -> Result<Progress, HeadError>) -> Result<Progress, HeadError> {
    let mut before = 0;
    for piece in pieces {
        match one(piece)? {
            Progress::Complete { len } => return Ok(Progress::Complete { len: before + len }),
            Progress::Partial => before += piece.len(),
        }
    }
    Ok(Progress::Partial)
}

fn request(bytes: &[u8]) -> Result<RequestHead, HeadError> {
    let mut head = RequestHead::new();
    match head.feed(bytes)? {
        Progress::Complete { .. } => Ok(head),
        Progress::Partial => panic!("the head is incomplete: {}", bytes.escape_ascii()),
    }
}

fn response(bytes: &[u8], method: Method) -> Result<ResponseHead, HeadError> {
    let mut head = ResponseHead::new();
    match head.feed(bytes, method)? {
        Progress::Complete { .. } => Ok(head),
        Progress::Partial => panic!("the head is incomplete: {}", bytes.escape_ascii()),
    }
}

/// The tested ways to cut `bytes`: in two at each position, and byte by byte.
fn cuts(bytes: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    let in_two = (0..=bytes.len()).map(|at| vec![&bytes[..at], &bytes[at..]]);
    in_two.chain(std::iter::once(bytes.chunks(1).collect()))
}

/// A decoded body: data, trailers, and how many bytes were left over.
type Body = (Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>, usize);

fn decode(framing: Framing, pieces: &[&[u8]]) -> Result<Body, BodyError> {
    let mut decoder = BodyDecoder::new(framing);
    let mut data = Vec::new();
    let mut rest = 0;
    for piece in pieces {
        let mut input = piece.to_vec();
        loop {
            match decoder.next(&mut input)? {
                Decoded::Data(bytes) => {
                    assert!(!bytes.is_empty());
                    data.extend(bytes);
                }
                Decoded::More => {
                    assert!(input.is_empty());
                    break;
                }
                Decoded::End => {
                    rest += input.len();
                    break;
                }
            }
        }
    }
    decoder.finish()?;
    let own = |(name, value): (&[u8], &[u8])| (name.to_vec(), value.to_vec());
    Ok((data, decoder.trailers().map(own).collect(), rest))
}

fn pick<'a, T: ?Sized>(rng: &mut Rng, list: &[&'a T]) -> &'a T {
    list[rng.below(list.len() as u64) as usize]
}
