use crate::base::Chunk;

use super::facts::Framing;
use super::section::{LineKind, Section, is_control};
use super::{
    BodyError, CHUNK_EXTENSION_LEN_MAX, CHUNK_EXTENSIONS_LEN_MAX, CHUNK_SIZE_DIGITS_MAX, TRAILERS_LEN_MAX, TRAILERS_MAX,
};

/// The result of a step of decoding.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded<B> {
    /// Bytes of the body, at least one.
    Data(B),
    /// The input is used up and the body continues.
    More,
    /// The body is complete. The rest of the input belongs to the next message.
    End,
}

/// Extracts a body from the bytes after a head by removing its framing (RFC 9112 section 7.1). Data is split off the
/// input without copying.
///
/// One decoder serves all bodies of a connection: call [`BodyDecoder::restart`] after each head.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    extensions_len: usize,
    trailers: Section,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Length { left: u64 },
    UntilClose,
    Size { size: u64, digits: usize },
    Extension { size: u64, len: usize },
    SizeLineFeed { size: u64 },
    ChunkData { left: u64 },
    DataReturn,
    DataLineFeed,
    Trailers,
    Done,
    Failed(BodyError),
}

impl Default for BodyDecoder {
    fn default() -> BodyDecoder {
        BodyDecoder::new(Framing::None)
    }
}

impl BodyDecoder {
    /// Creates a decoder for a body with this framing.
    #[must_use]
    pub const fn new(framing: Framing) -> BodyDecoder {
        let trailers = Section::new(TRAILERS_LEN_MAX, TRAILERS_MAX);
        BodyDecoder { state: State::first(framing), extensions_len: 0, trailers }
    }

    /// Starts another body and keeps the allocated memory.
    pub fn restart(&mut self, framing: Framing) {
        self.state = State::first(framing);
        self.extensions_len = 0;
        self.trailers.clear();
    }

    /// Decodes the next piece of the body from the input. Call it until it returns [`Decoded::More`] or
    /// [`Decoded::End`]: the end of the body may be in the same input as its last data, and should be forwarded in the
    /// same write.
    ///
    /// # Errors
    ///
    /// [`BodyError`] if the framing is malformed; further calls return the same error.
    pub fn next<B: Chunk>(&mut self, input: &mut B) -> Result<Decoded<B>, BodyError> {
        loop {
            match self.state {
                State::Done => return Ok(Decoded::End),
                State::Failed(why) => return Err(why),
                _ if input.is_empty() => return Ok(Decoded::More),
                State::UntilClose => return Ok(Decoded::Data(input.split_to(input.len()))),
                State::Length { left } => {
                    let (data, left) = cut(input, left);
                    self.state = if left == 0 { State::Done } else { State::Length { left } };
                    return Ok(Decoded::Data(data));
                }
                State::ChunkData { left } => {
                    let (data, left) = cut(input, left);
                    self.state = if left == 0 { State::DataReturn } else { State::ChunkData { left } };
                    return Ok(Decoded::Data(data));
                }
                _ => self.read_framing(input)?,
            }
        }
    }

    /// Tells the decoder that the connection has ended.
    ///
    /// # Errors
    ///
    /// [`BodyError::Truncated`] if the body is not complete: it must not be forwarded as a complete one.
    pub fn finish(&mut self) -> Result<(), BodyError> {
        match self.state {
            State::Done | State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            State::Failed(why) => Err(why),
            _ => Err(self.fail(BodyError::Truncated)),
        }
    }

    /// Whether the body is complete.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether there are fields after the last chunk.
    #[must_use]
    #[cfg(test)]
    pub fn has_trailers(&self) -> bool {
        !self.trailers.fields().is_empty()
    }

    /// The fields after the last chunk, in order; complete once the body is complete.
    pub fn trailers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.trailers.iter()
    }

    fn fail(&mut self, why: BodyError) -> BodyError {
        self.state = State::Failed(why);
        why
    }

    /// Parses framing up to the next data or the end of the input, and removes it from the input in one cut.
    fn read_framing<B: Chunk>(&mut self, input: &mut B) -> Result<(), BodyError> {
        let bytes = input.as_ref();
        let mut at = 0;
        while at < bytes.len() && self.state.is_framing() {
            let step = match self.state {
                State::Trailers => self.read_trailers(&bytes[at..]),
                state => self.step(state, bytes[at]).map(|next| (1, next)),
            };
            let (taken, next) = step.map_err(|why| self.fail(why))?;
            self.state = next;
            at += taken;
        }
        input.split_to(at);
        Ok(())
    }

    fn step(&mut self, state: State, byte: u8) -> Result<State, BodyError> {
        match (state, byte) {
            (State::Size { digits: 1.., size }, b'\r') => Ok(State::SizeLineFeed { size }),
            (State::Size { digits: 1.., size }, b';') => self.extend(size, 0),
            (State::Size { digits: 1.., .. }, b'\n') => Err(BodyError::BadLineEnd),
            (State::Size { size, digits }, _) => match hex_digit(byte) {
                Some(digit) if digits < CHUNK_SIZE_DIGITS_MAX => {
                    Ok(State::Size { size: size << 4 | digit, digits: digits + 1 })
                }
                _ => Err(BodyError::BadChunkSize),
            },
            (State::Extension { size, .. }, b'\r') => Ok(State::SizeLineFeed { size }),
            (State::Extension { .. }, b'\n') => Err(BodyError::BadLineEnd),
            (State::Extension { .. }, _) if is_control(byte) => Err(BodyError::BadExtension),
            (State::Extension { size, len }, _) => self.extend(size, len),
            (State::SizeLineFeed { size: 0 }, b'\n') => Ok(State::Trailers),
            (State::SizeLineFeed { size }, b'\n') => Ok(State::ChunkData { left: size }),
            (State::DataReturn, b'\r') => Ok(State::DataLineFeed),
            (State::DataReturn, _) => Err(BodyError::ChunkOverrun),
            (State::DataLineFeed, b'\n') => Ok(State::Size { size: 0, digits: 0 }),
            _ => Err(BodyError::BadLineEnd),
        }
    }

    /// Counts one more byte of a chunk extension, which is discarded.
    fn extend(&mut self, size: u64, len: usize) -> Result<State, BodyError> {
        self.extensions_len += 1;
        if len == CHUNK_EXTENSION_LEN_MAX || self.extensions_len > CHUNK_EXTENSIONS_LEN_MAX {
            return Err(BodyError::ExtensionTooLong);
        }
        Ok(State::Extension { size, len: len + 1 })
    }

    fn read_trailers(&mut self, bytes: &[u8]) -> Result<(usize, State), BodyError> {
        let (taken, line) = self.trailers.take_line(bytes, LineKind::Field).map_err(BodyError::BadTrailers)?;
        match line {
            None => return Ok((taken, State::Trailers)),
            Some(line) if line.is_empty() => return Ok((taken, State::Done)),
            Some(line) => self.trailers.push_field(line).map_err(BodyError::BadTrailers)?,
        }
        let forbidden = self.trailers.fields().last().is_some_and(|field| field.known.is_forbidden_in_trailers());
        if forbidden { Err(BodyError::ForbiddenTrailer) } else { Ok((taken, State::Trailers)) }
    }
}

impl State {
    const fn first(framing: Framing) -> State {
        match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(left) => State::Length { left },
            Framing::Chunked => State::Size { size: 0, digits: 0 },
            Framing::UntilClose => State::UntilClose,
        }
    }

    const fn is_framing(self) -> bool {
        !matches!(self, State::Length { .. } | State::UntilClose | State::ChunkData { .. } | State::Done)
    }
}

/// Splits off at most `left` bytes; returns how many are left after that.
fn cut<B: Chunk>(input: &mut B, left: u64) -> (B, u64) {
    let len = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
    (input.split_to(len), left - len as u64)
}

fn hex_digit(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}
