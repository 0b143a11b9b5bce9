use http::{HeaderMap, HeaderName, HeaderValue};

use super::fields::push;
use crate::wire::http1::{BodyDecoder, BodyError, Decoded, Framing};

/// Reads the trailers of a request into `decoder`, as those of a chunked body, with the same rules.
///
/// # Errors
///
/// If they are malformed, too many, or name a field that only a head may carry.
pub fn read_trailers(trailers: &HeaderMap, decoder: &mut BodyDecoder) -> Result<(), BodyError> {
    let mut text = b"0\r\n".to_vec();
    for (name, value) in trailers {
        push(&mut text, &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
    }
    text.extend_from_slice(b"\r\n");
    decoder.restart(Framing::Chunked);
    match decoder.next(&mut text)? {
        Decoded::End => Ok(()),
        Decoded::Data(_) | Decoded::More => Err(BodyError::Truncated),
    }
}

/// Converts trailers to those of HTTP/2.
pub fn trailers_of<'a>(trailers: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> HeaderMap {
    let of = |(name, value)| Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?));
    let mut map = HeaderMap::new();
    for (name, value) in trailers.filter_map(of) {
        map.append(name, value);
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[(&'static str, &str)]) -> Result<String, BodyError> {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let mut decoder = BodyDecoder::default();
        read_trailers(&map, &mut decoder)?;
        let text = |bytes| String::from_utf8_lossy(bytes);
        Ok(decoder.trailers().map(|(name, value)| format!("{}={};", text(name), text(value))).collect())
    }

    #[test]
    fn trailers_are_judged_as_those_of_http_1() {
        assert_eq!(read(&[("x-sum", "1"), ("x-sum", "2")]).unwrap(), "x-sum=1;x-sum=2;");
        assert_eq!(read(&[]).unwrap(), "");
        for name in ["content-length", "host", "authorization", "mcp-session-id", "x-forwarded-for"] {
            assert_eq!(read(&[(name, "1")]), Err(BodyError::ForbiddenTrailer), "{name}");
        }
        let many = vec![("x", "y"); 40];
        assert!(matches!(read(&many), Err(BodyError::BadTrailers(_))));
    }

    #[test]
    fn the_trailers_of_a_response_keep_their_order() {
        let map = trailers_of([(&b"X-A"[..], &b"1"[..]), (b"X-B", b"2"), (b"x-a", b"3")].into_iter());
        assert_eq!(map.get_all("x-a").iter().map(HeaderValue::as_bytes).collect::<Vec<_>>(), [b"1", b"3"]);
        assert_eq!(map["x-b"], "2");
    }
}
