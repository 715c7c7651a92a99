use std::{fs, io::Read, path::Path};

/// The largest file that is read: no configuration is larger, and `/dev/zero` is.
pub(crate) const MAX_BYTES: u64 = 1024 * 1024;

/// Reads a small regular text file. The error says why not, without the path and without anything of the content.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    // Opening a named pipe waits for a writer, perhaps for ever, so the kind of file is looked at first.
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err("it is larger than 1 MiB".to_owned());
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}
