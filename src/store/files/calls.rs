//! What the log asks of a file system, and nothing more: [`super::Disk`] calls it, [`super::real`] is it, and the
//! tests have one that forgets what was not synced. Paths are relative to the store's directory; "" is itself.

use std::io;

/// Something in a directory.
pub(in crate::store) struct Entry {
    /// One that is no text is not ours: it only must not look like ours.
    pub(in crate::store) name: String,
    /// `None`: no file.
    pub(in crate::store) bytes: Option<u64>,
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Access {
    Read,
    Write,
    /// Writes of whole pages, from pages in memory, past the page cache. Not every file system takes them, and some
    /// say so with `InvalidInput` only at the first write.
    Direct,
}

/// What holds a lock, until it is dropped.
pub(in crate::store) trait Held: Send + Sync {}

/// Entries that a call makes, moves or removes are durable when their directory was synced.
pub(in crate::store) trait Files: Send + Sync {
    /// Makes a directory and its parents, for the owner alone. One that is there is left as it is.
    fn make_directory(&self, path: &str) -> io::Result<()>;

    /// Everything in a directory that can be looked at, in no order.
    fn list(&self, directory: &str) -> io::Result<Vec<Entry>>;

    fn sync_directory(&self, path: &str) -> io::Result<()>;

    /// Bytes of a file.
    fn size(&self, path: &str) -> io::Result<u64>;

    /// A new and empty file for the owner alone, to read and write; `AlreadyExists` where the name is taken.
    fn create(&self, path: &str) -> io::Result<Box<dyn File>>;

    fn open(&self, path: &str, access: Access) -> io::Result<Box<dyn File>>;

    /// Within the store's directory; what has the name `to` is replaced.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    fn remove(&self, path: &str) -> io::Result<()>;

    /// Takes the lock that a file stands for, and makes the file. `None`: somebody else has it.
    fn lock(&self, path: &str) -> io::Result<Option<Box<dyn Held>>>;

    /// The process that has the lock, as far as can be seen from here; takes and makes nothing. 0: one without a
    /// number here. `None`: nobody.
    ///
    /// # Errors
    /// It cannot be told.
    fn holder(&self, _path: &str) -> io::Result<Option<u32>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Bytes that files below the store's directory can still take.
    ///
    /// # Errors
    /// It cannot be told.
    fn free_bytes(&self) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// An open file. One is shared by threads: it has no place of its own that it reads or writes at.
pub(in crate::store) trait File: Send + Sync {
    /// May read less than there is; 0 at the end of the file.
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize>;

    /// May write less than all.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize>;

    /// Writes what stands in several places, one behind the other; may write less than all.
    fn write_vectored_at(&self, parts: &[&[u8]], at: u64) -> io::Result<usize> {
        self.write_at(parts.iter().copied().find(|part| !part.is_empty()).unwrap_or_default(), at)
    }

    /// Reserves space and makes the file so long, with zeros. Where the file system reserves nothing the file is
    /// only made so long.
    fn allocate(&self, bytes: u64) -> io::Result<()>;

    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// Bytes of the file.
    fn size(&self) -> io::Result<u64>;

    /// What was written is durable, and can be read back.
    fn sync_data(&self) -> io::Result<()>;

    /// The same, and everything that is known of the file. Its directory entry is not part of it.
    fn sync_all(&self) -> io::Result<()>;

    fn read_exact_at(&self, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.read_at(bytes, at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    bytes = &mut bytes[read..];
                    at += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_vectored_at(&mut [bytes], at)
    }

    /// `parts` are used up.
    fn write_all_vectored_at(&self, parts: &mut [&[u8]], mut at: u64) -> io::Result<()> {
        while parts.iter().any(|part| !part.is_empty()) {
            match self.write_vectored_at(parts, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(mut written) => {
                    at += written as u64;
                    for part in &mut *parts {
                        let of_this = part.len().min(written);
                        *part = &part[of_this..];
                        written -= of_this;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
