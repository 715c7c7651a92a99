//! As much of HTTP/1.1 as it takes to know where a message ends.

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

impl Framing {
    pub(super) fn is_empty(self) -> bool {
        self == Self::Length(0)
    }
}

/// The length of the head at the front of `bytes`, with its empty line.
pub(super) fn head_length(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(end + 4)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

fn declared(head: &str) -> Option<Framing> {
    if header(head, "transfer-encoding").is_some_and(|value| value.to_ascii_lowercase().ends_with("chunked"))
    {
        return Some(Framing::Chunked);
    }
    header(head, "content-length")
        .and_then(|value| value.parse().ok())
        .map(Framing::Length)
}

pub(super) fn request_framing(head: &str) -> Framing {
    declared(head).unwrap_or(Framing::Length(0))
}

pub(super) fn answer_framing(head: &str, method: &str) -> Framing {
    let status = status(head);
    if method == "HEAD" || status < 200 || status == 204 || status == 304 {
        return Framing::Length(0);
    }
    declared(head).unwrap_or(Framing::UntilClose)
}

pub(super) fn method(head: &str) -> &str {
    head.split(' ').next().unwrap_or_default()
}

pub(super) fn status(head: &str) -> u16 {
    let code = head.split(' ').nth(1);
    code.and_then(|code| code.trim().parse().ok()).unwrap_or(0)
}

/// Whether the body is a document of the protocol itself.
pub(super) fn is_xml(head: &str) -> bool {
    header(head, "content-type").is_some_and(|value| value.contains("xml"))
}

/// Whether the connection ends after this message.
pub(super) fn closes(head: &str) -> bool {
    header(head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
}

/// Finds the end of a chunked body in bytes that arrive in pieces.
#[derive(Debug, Default)]
pub(super) struct ChunkScanner {
    state: Chunk,
    size: u64,
}

#[derive(Debug, Default, PartialEq)]
enum Chunk {
    #[default]
    Size,
    SizeEnd,
    Data,
    DataEnd,
    /// In the lines after the last chunk: whether this one has had a character.
    Trailer(bool),
    Done,
}

impl ChunkScanner {
    /// How many of these bytes still belong to the body, and whether it ends with them.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while at < bytes.len() && self.state != Chunk::Done {
            let byte = bytes[at];
            if self.state == Chunk::Data {
                let skip = self.size.min((bytes.len() - at) as u64);
                self.size -= skip;
                at += skip as usize;
                if self.size == 0 {
                    self.state = Chunk::DataEnd;
                }
                continue;
            }
            at += 1;
            self.state = match (&self.state, byte) {
                (Chunk::Size, b'\n') if self.size == 0 => Chunk::Trailer(false),
                (Chunk::Size | Chunk::SizeEnd, b'\n') => match self.size {
                    0 => Chunk::Trailer(false),
                    _ => Chunk::Data,
                },
                (Chunk::Size, byte) => match (byte as char).to_digit(16) {
                    Some(digit) => {
                        self.size = self.size.saturating_mul(16).saturating_add(digit.into());
                        Chunk::Size
                    }
                    // An extension, or the carriage return.
                    None => Chunk::SizeEnd,
                },
                (Chunk::SizeEnd, _) => Chunk::SizeEnd,
                (Chunk::DataEnd, b'\n') => Chunk::Size,
                (Chunk::Trailer(false), b'\n') => Chunk::Done,
                (Chunk::Trailer(_), b'\n') => Chunk::Trailer(false),
                (Chunk::Trailer(seen), b'\r') => Chunk::Trailer(*seen),
                (Chunk::Trailer(_), _) => Chunk::Trailer(true),
                _ => Chunk::DataEnd,
            };
        }
        (at, self.state == Chunk::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_chunked_body_is_found_however_it_arrives() {
        let body = b"5;x=y\r\nhello\r\nA\r\n0123456789\r\n0\r\nT: 1\r\n\r\nGET";
        for step in 1..body.len() {
            let (mut scanner, mut end) = (ChunkScanner::default(), 0);
            for piece in body.chunks(step) {
                let (length, done) = scanner.scan(piece);
                end += length;
                if done {
                    break;
                }
            }
            assert_eq!(&body[end..], b"GET", "in steps of {step}");
        }
    }

    #[test]
    fn heads_say_how_long_their_bodies_are() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(answer_framing(answer, "GET"), Framing::Length(5));
        assert_eq!(answer_framing(answer, "HEAD"), Framing::Length(0));
        assert_eq!(
            answer_framing("HTTP/1.1 200 OK\r\n\r\n", "GET"),
            Framing::UntilClose
        );
        assert_eq!(
            answer_framing("HTTP/1.1 204 No Content\r\n\r\n", "GET"),
            Framing::Length(0)
        );
        let request = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
        assert_eq!(request_framing(request), Framing::Chunked);
        assert!(closes(request));
        assert_eq!((method(request), status(answer)), ("POST", 200));
        assert_eq!(head_length(request.as_bytes()), Some(request.len()));
    }
}
