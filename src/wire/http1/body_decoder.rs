use crate::base::Chunk;

use super::facts::Framing;
use super::section::{LineKind, Section, is_control};
use super::{
    BodyError, CHUNK_EXTENSION_LEN_MAX, CHUNK_EXTENSIONS_LEN_MAX, CHUNK_SIZE_DIGITS_MAX, TRAILERS_LEN_MAX, TRAILERS_MAX,
};

/// What the decoder made of its input.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded<B> {
    /// Some bytes of the body, never none.
    Data(B),
    /// The input is used up and the body goes on.
    More,
    /// The body is over. What is left in the input belongs to the next message.
    End,
}

/// Finds the body in what arrives after a head and strips its framing (RFC 9112 section 7.1). Data is cut off the input,
/// never copied.
///
/// One decoder serves all bodies of a connection: [`BodyDecoder::restart`] it after each head.
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
    /// A decoder for a body framed so.
    #[must_use]
    pub const fn new(framing: Framing) -> BodyDecoder {
        let trailers = Section::new(TRAILERS_LEN_MAX, TRAILERS_MAX);
        BodyDecoder { state: State::first(framing), extensions_len: 0, trailers }
    }

    /// Begins another body and keeps the memory.
    pub fn restart(&mut self, framing: Framing) {
        self.state = State::first(framing);
        self.extensions_len = 0;
        self.trailers.clear();
    }

    /// Takes the next piece of the body off the input. Call it until it says [`Decoded::More`] or [`Decoded::End`]: the
    /// end of the body may be in the same input as its last data, and is best passed on in the same write.
    ///
    /// # Errors
    ///
    /// [`BodyError`] when the framing is broken, and the same again on each further call.
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
    /// [`BodyError::Truncated`] when the body has not: it must not be passed on as if it were whole.
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

    /// Whether the body is over.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether fields came after the last chunk.
    #[must_use]
    #[cfg(test)]
    pub fn has_trailers(&self) -> bool {
        !self.trailers.fields().is_empty()
    }

    /// The fields that came after the last chunk, in order; whole once the body is over.
    pub fn trailers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.trailers.iter()
    }

    fn fail(&mut self, why: BodyError) -> BodyError {
        self.state = State::Failed(why);
        why
    }

    /// Reads framing bytes up to the next data, or as far as the input goes, and takes them off in one cut.
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

    /// Counts one more byte of a chunk extension, which is not kept.
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

/// Cuts at most `left` bytes off, and says how many are left after that.
fn cut<B: Chunk>(input: &mut B, left: u64) -> (B, u64) {
    let len = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
    (input.split_to(len), left - len as u64)
}

fn hex_digit(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}
