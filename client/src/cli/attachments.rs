//! Files beside the text: how do they become blocks of a request?

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sess_client::{Caller, blob};
use sess_protocol::line::LINE_BYTES_MAX;
use sess_protocol::methods::{BLOCKS_MAX, Content};
use sess_protocol::things::Block;

use super::ages;
use super::output::{Output, Stop};

/// Bytes of one file that can be attached.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes that go in the request itself; the rest goes before it, as blobs. Base64 makes four of three,
/// JSON two of one where text is full of quotes, and the text said needs room too.
const INLINE_BYTES_MAX: u64 = LINE_BYTES_MAX as u64 / 4;
/// Bytes at a file's beginning that tell what it is.
const MAGIC_BYTES: usize = 16;

/// A request's content: the text, and the files as blocks behind it.
pub(crate) async fn content(
    output: &mut Output,
    caller: &mut Caller,
    text: String,
    files: &[PathBuf],
) -> Result<Content, Stop> {
    if files.is_empty() {
        return Ok(Content::Text(text));
    }
    if files.len() >= BLOCKS_MAX {
        return Err(Stop::usage(format_args!("more than {} files", BLOCKS_MAX - 1)));
    }
    let mut blocks = vec![Block::text(text)];
    let mut room = INLINE_BYTES_MAX;
    for path in files {
        let (block, bytes) = block(caller, path, &mut room).await?;
        output.note(&format!("attached `{}` ({})", path.display(), ages::bytes(bytes)))?;
        blocks.push(block);
    }
    Ok(Content::Blocks(blocks))
}

/// The files that a text names as `@path`, where a file is there. Anything else with an `@` is text.
pub(crate) fn named_in(text: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for word in text.split_whitespace() {
        let Some(name) = word.strip_prefix('@').filter(|it| !it.is_empty()) else { continue };
        // A sentence may end behind a name.
        let trimmed = name.trim_end_matches(['.', ',', ';', ':', '!', '?', ')']);
        let file = [name, trimmed].map(in_home).into_iter().find(|it| it.is_file());
        if let Some(file) = file.filter(|it| !found.contains(it)) {
            found.push(file);
        }
    }
    found
}

/// A path as the shell understands it: `~/` is the home.
pub(crate) fn in_home(name: &str) -> PathBuf {
    match (name.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => PathBuf::from(name),
    }
}

/// One file as a block, and how many bytes it has.
async fn block(caller: &mut Caller, path: &Path, room: &mut u64) -> Result<(Block, u64), Stop> {
    let cannot = |err: io::Error| {
        Stop::failed(format_args!("cannot attach `{}`: {err}", path.display()))
            .hint("nothing was sent; name a file that can be read")
    };
    let mut file = File::open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    if !metadata.is_file() {
        return Err(cannot(io::Error::other("it is no file")));
    }
    let bytes = metadata.len();
    if bytes > FILE_BYTES_MAX {
        let limit = ages::bytes(FILE_BYTES_MAX);
        return Err(cannot(io::Error::other(format!("it has more than {limit}"))));
    }
    let mut head = Vec::new();
    (&mut file).take(MAGIC_BYTES as u64).read_to_end(&mut head).map_err(cannot)?;
    file.rewind().map_err(cannot)?;
    let name = path.file_name().map_or_else(String::new, |it| it.to_string_lossy().into_owned());
    let image = image_type(&head);
    if bytes > *room {
        let hash = blob::put(caller, &mut file).await?.map_err(cannot)?;
        return Ok((stored(name, image, hash, path), bytes));
    }
    *room -= bytes;
    let mut content = Vec::new();
    // A file may grow while it is read.
    file.take(bytes).read_to_end(&mut content).map_err(cannot)?;
    Ok((inline(name, image, content, path), bytes))
}

fn inline(name: String, image: Option<&str>, content: Vec<u8>, path: &Path) -> Block {
    if let Some(media_type) = image {
        let (media_type, data) = (media_type.to_owned(), Some(STANDARD.encode(content)));
        return Block::Image { media_type, data, blob: None, bytes: None };
    }
    let media_type = media_type(path);
    let (text, data) = match String::from_utf8(content) {
        Ok(text) => (Some(text), None),
        Err(err) => (None, Some(STANDARD.encode(err.into_bytes()))),
    };
    Block::File { name, media_type, text, data, blob: None, bytes: None }
}

fn stored(name: String, image: Option<&str>, hash: String, path: &Path) -> Block {
    let blob = Some(hash);
    match image {
        Some(it) => Block::Image { media_type: it.to_owned(), data: None, blob, bytes: None },
        None => {
            let media_type = media_type(path);
            Block::File { name, media_type, text: None, data: None, blob, bytes: None }
        }
    }
}

/// What a picture is, by its first bytes: these four are what models see.
fn image_type(head: &[u8]) -> Option<&'static str> {
    match head {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

/// What another file is, by its name, as far as it matters to a model.
fn media_type(path: &Path) -> Option<String> {
    let ending = path.extension()?.to_str()?.to_ascii_lowercase();
    let known = match ending.as_str() {
        "pdf" => "application/pdf",
        "json" => "application/json",
        "md" => "text/markdown",
        "csv" => "text/csv",
        "html" | "htm" => "text/html",
        "txt" | "log" => "text/plain",
        _ => return None,
    };
    Some(known.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_told_by_its_bytes_and_a_text_by_being_one() {
        let path = Path::new("x.bin");
        let png = inline("x".to_owned(), image_type(b"\x89PNG\r\n"), b"\x89PNG".to_vec(), path);
        assert!(matches!(png, Block::Image { media_type, .. } if media_type == "image/png"));
        assert_eq!(image_type(b"RIFF....WEBPVP8 "), Some("image/webp"));
        assert_eq!(image_type(b"GIF"), None);
        let text = inline("x".to_owned(), None, "grün".into(), Path::new("a.MD"));
        assert!(
            matches!(text, Block::File { text: Some(_), data: None, media_type: Some(it), .. } if it == "text/markdown")
        );
        let bytes = inline("x".to_owned(), None, vec![0xff, 0], path);
        assert!(matches!(bytes, Block::File { text: None, data: Some(_), .. }));
    }

    #[test]
    fn only_files_that_are_there_are_meant_by_an_at_sign() {
        let here = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let text = format!("look at @{here}, mail a@b.c, ask @nobody and @{here} again");
        assert_eq!(named_in(&text), [PathBuf::from(here)]);
    }
}
