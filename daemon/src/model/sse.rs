//! Which events are in a stream of server-sent events? Bytes in, the data of whole events out.
//!
//! Pure, linear in its input wherever the network cut it, and bounded: an event that grows past its
//! limit is an error. Names, ids and retry hints of events are passed over, since no provider needs them.

/// The longest event, and the longest line.
pub(crate) const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// Why a stream cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// An event passes [`EVENT_BYTES_MAX`].
    TooLong,
    /// An event's data is not UTF-8.
    NotUtf8,
}

/// What has come of a stream and was not yet given out.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// The unfinished line.
    line: Vec<u8>,
    /// The data of the unfinished event, each line ended by `\n`.
    data: Vec<u8>,
    /// The last byte was `\r`: a `\n` right behind it ends no further line.
    after_return: bool,
    /// The first line has been seen, so that a byte order mark means nothing more.
    begun: bool,
}

impl Decoder {
    /// Takes what came and calls `event` with the data of each event that is whole.
    pub(crate) fn feed<E: From<Broken>>(
        &mut self,
        bytes: &[u8],
        mut event: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = bytes;
        if self.after_return && !rest.is_empty() {
            self.after_return = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(end) = rest.iter().position(|it| matches!(it, b'\n' | b'\r')) {
            // A line that comes in one piece is no shorter than one that does not.
            if self.line.len() + end > EVENT_BYTES_MAX {
                return Err(Broken::TooLong.into());
            }
            if self.line.is_empty() {
                self.line_ended(&rest[..end], &mut event)?;
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&rest[..end]);
                self.line_ended(&line, &mut event)?;
                line.clear();
                self.line = line;
            }
            let returned = rest[end] == b'\r';
            rest = &rest[end + 1..];
            if returned {
                self.after_return = rest.is_empty();
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            }
        }
        if self.line.len() + rest.len() > EVENT_BYTES_MAX {
            return Err(Broken::TooLong.into());
        }
        self.line.extend_from_slice(rest);
        Ok(())
    }

    /// The stream ended: takes what is left as if its line and event had ended too, since some servers
    /// leave out the last empty line. The caller decides whether such an event is whole.
    pub(crate) fn end<E: From<Broken>>(
        &mut self,
        event: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        self.feed(b"\n\n", event)
    }

    fn line_ended<E: From<Broken>>(
        &mut self,
        line: &[u8],
        event: &mut impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        let line =
            if self.begun { line } else { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) };
        self.begun = true;
        if line.is_empty() {
            return self.event_ended(event);
        }
        let Some(data) = line.strip_prefix(b"data") else { return Ok(()) };
        let data = match data {
            [] => data,
            [b':', b' ', data @ ..] | [b':', data @ ..] => data,
            _ => return Ok(()),
        };
        if self.data.len() + data.len() > EVENT_BYTES_MAX {
            return Err(Broken::TooLong.into());
        }
        self.data.extend_from_slice(data);
        self.data.push(b'\n');
        Ok(())
    }

    fn event_ended<E: From<Broken>>(
        &mut self,
        event: &mut impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some((_, data)) = self.data.split_last() else { return Ok(()) };
        let text = std::str::from_utf8(data).map_err(|_| Broken::NotUtf8)?;
        let given = event(text);
        self.data.clear();
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(parts: &[&[u8]]) -> Result<Vec<String>, Broken> {
        let mut events = Vec::new();
        let mut decoder = Decoder::default();
        for part in parts {
            decoder.feed(part, |it| {
                events.push(it.to_owned());
                Ok::<_, Broken>(())
            })?;
        }
        Ok(events)
    }

    const STREAM: &str = "\u{feff}: hello\r\n\r\ndata: {\"a\":1}\r\n\r\nevent: x\ndata:zwei 🦀\ndata\ndata:  é\n\n\
                          id: 4\nretry: 9\n\ndatax: no\n\n\n\ndata: [DONE]\r\rdata: open";

    #[test]
    fn events_are_the_same_wherever_the_stream_is_cut() {
        let want = ["{\"a\":1}", "zwei 🦀\n\n é", "[DONE]"];
        let bytes = STREAM.as_bytes();
        assert_eq!(decode(&[bytes]).unwrap(), want);
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let parts = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(decode(&parts).unwrap(), want, "cut at {first} and {second}");
            }
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode(&single).unwrap(), want);
    }

    #[test]
    fn an_event_past_the_limit_is_refused_however_it_comes() {
        let block = vec![b'x'; 64 * 1024];
        let one_line = std::iter::once(&b"data: "[..]).chain(std::iter::repeat_n(&block[..], 17));
        assert_eq!(decode(&one_line.collect::<Vec<_>>()), Err(Broken::TooLong));
        let mut line = b"data: ".to_vec();
        line.extend_from_slice(&block);
        line.push(b'\n');
        assert_eq!(decode(&vec![&line[..]; 17]), Err(Broken::TooLong));
        let whole = [&b"data: "[..], &block.repeat(17), b"\n\n"].concat();
        assert_eq!(decode(&[&whole]), Err(Broken::TooLong));
        assert_eq!(decode(&vec![&b": comment\n"[..]; 200_000]), Ok(vec![]));
    }

    #[test]
    fn data_that_is_not_utf8_is_refused() {
        assert_eq!(decode(&[b"data: \xff\n\n"]), Err(Broken::NotUtf8));
        assert_eq!(decode(&[b": \xff\n\ndata: ok\n\n"]).unwrap(), ["ok"]);
    }

    #[test]
    fn the_end_gives_out_an_event_that_lacks_its_empty_line() {
        let mut decoder = Decoder::default();
        let mut events = Vec::new();
        decoder.feed(b"data: a", |_| Ok::<_, Broken>(())).unwrap();
        decoder
            .end(|it| {
                events.push(it.to_owned());
                Ok::<_, Broken>(())
            })
            .unwrap();
        assert_eq!(events, ["a"]);
    }
}
