use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The suffix of a plain file of lines.
const PLAIN: &str = ".jsonl";
/// The suffix of a compressed file.
const COMPRESSED: &str = ".jsonl.zst";
/// The suffix of a file that is being compressed.
pub(super) const COMPRESSING: &str = ".jsonl.zst.tmp";
/// The prefix before the number of the first line.
const PREFIX: &str = "audit-";
/// The digits of that number, zero-padded for sorting.
const DIGITS: usize = 20;
/// How often a directory is listed at most, until two listings agree.
const LISTINGS_MAX: u32 = 100;
/// The longest line that is read, in bytes, many times the longest that is written.
const LINE_LEN_MAX: u64 = 256 * 1024;

/// A file of lines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditFile {
    /// The number of its first line.
    pub first: u64,
    /// Whether it is compressed. A plain file takes precedence: if both exist, compression was interrupted.
    pub is_compressed: bool,
    /// The path of the file.
    pub path: PathBuf,
}

impl AuditFile {
    /// The file of a directory whose first line has this number.
    #[must_use]
    pub fn plain(dir: &Path, first: u64) -> AuditFile {
        let path = dir.join(format!("{PREFIX}{first:0DIGITS$}{PLAIN}"));
        AuditFile { first, is_compressed: false, path }
    }

    /// The same file when it is compressed.
    #[must_use]
    pub fn compressed(dir: &Path, first: u64) -> AuditFile {
        let path = dir.join(format!("{PREFIX}{first:0DIGITS$}{COMPRESSED}"));
        AuditFile { first, is_compressed: true, path }
    }

    /// The temporary path of a file that is being compressed.
    pub(super) fn compressing(dir: &Path, first: u64) -> PathBuf {
        dir.join(format!("{PREFIX}{first:0DIGITS$}{COMPRESSING}"))
    }

    fn parse(dir: &Path, name: &str) -> Option<AuditFile> {
        let (number, is_compressed) = match name.strip_suffix(COMPRESSED) {
            Some(rest) => (rest, true),
            None => (name.strip_suffix(PLAIN)?, false),
        };
        let number = number.strip_prefix(PREFIX).filter(|number| number.len() == DIGITS)?;
        Some(AuditFile { first: number.parse().ok()?, is_compressed, path: dir.join(name) })
    }

    /// The files of a directory in the order of their lines, each listed once.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read.
    pub fn list(dir: &Path) -> io::Result<Vec<AuditFile>> {
        let mut files = AuditFile::list_once(dir)?;
        // A listing may miss both names of a file that is being compressed. The next listing sees the new name.
        for _ in 1..LISTINGS_MAX {
            let again = AuditFile::list_once(dir)?;
            if again == files {
                break;
            }
            files = again;
        }
        Ok(files)
    }

    fn list_once(dir: &Path) -> io::Result<Vec<AuditFile>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            files.extend(entry?.file_name().to_str().and_then(|name| AuditFile::parse(dir, name)));
        }
        files.sort();
        files.dedup_by_key(|file| file.first);
        Ok(files)
    }

    /// Its name within the directory.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Its lines, decompressed if necessary.
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    pub fn lines(&self) -> io::Result<AuditLines> {
        let (file, is_compressed) = self.open()?;
        let bytes = if is_compressed { Bytes::Compressed(zstd::Decoder::new(file)?) } else { Bytes::Plain(file) };
        Ok(AuditLines { reader: BufReader::new(bytes), line: Vec::new(), position: 0 })
    }

    /// The file's metadata, such as its length.
    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        self.open()?.0.metadata()
    }

    fn open(&self) -> io::Result<(File, bool)> {
        match File::open(&self.path) {
            // The file was compressed a moment ago.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.is_compressed => {
                let dir = self.path.parent().unwrap_or(Path::new("."));
                Ok((File::open(AuditFile::compressed(dir, self.first).path)?, true))
            }
            file => Ok((file?, self.is_compressed)),
        }
    }
}

/// The bytes of lines.
enum Bytes {
    Plain(File),
    Compressed(zstd::Decoder<'static, BufReader<File>>),
}

impl Read for Bytes {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Bytes::Plain(file) => file.read(into),
            Bytes::Compressed(decoder) => decoder.read(into),
        }
    }
}

/// Reads the lines of a file in order.
pub struct AuditLines {
    reader: BufReader<Bytes>,
    line: Vec<u8>,
    /// The position of the next line, in uncompressed bytes.
    position: u64,
}

impl AuditLines {
    /// The next line without its line feed, and whether it had one; `None` at the end.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or its compression is damaged.
    pub fn next_line(&mut self) -> io::Result<Option<(&[u8], bool)>> {
        self.line.clear();
        let read = (&mut self.reader).take(LINE_LEN_MAX).read_until(b'\n', &mut self.line)?;
        self.position += read as u64;
        let line = match self.line.strip_suffix(b"\n") {
            _ if read == 0 => return Ok(None),
            Some(line) => (line, true),
            // A longer line is not valid. The rest of it is returned as further lines.
            None => (&self.line[..], read as u64 == LINE_LEN_MAX),
        };
        Ok(Some(line))
    }

    /// The position of the next line, in uncompressed bytes.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Skips to this position, which must not be before the next line.
    pub(super) fn skip_to(&mut self, position: u64) -> io::Result<()> {
        let mut left = position.checked_sub(self.position).ok_or(io::ErrorKind::InvalidInput)?;
        let buffered = left.min(self.reader.buffer().len() as u64);
        self.reader.consume(buffered as usize);
        left -= buffered;
        if left > 0 {
            match self.reader.get_mut() {
                Bytes::Plain(file) => drop(file.seek(SeekFrom::Current(left.cast_signed()))?),
                Bytes::Compressed(_) => drop(io::copy(&mut (&mut self.reader).take(left), &mut io::sink())?),
            }
        }
        self.position = position;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_in_the_order_of_their_lines_and_each_of_them_once() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["audit.head", "audit-1.jsonl", "audit-00000000000000000009.jsonl.tmp", "other"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let (one, two) = (AuditFile::compressed(dir.path(), 1), AuditFile::plain(dir.path(), 20));
        for file in [&two, &one, &AuditFile::compressed(dir.path(), 20)] {
            std::fs::write(&file.path, "").unwrap();
        }
        assert_eq!(AuditFile::list(dir.path()).unwrap(), [one, two]);
    }
}
