//! A clock that is set otherwise, for one process.

/// Words before a command: its wall clock is set so (`+23h`, `@2020-01-01 00:00:00`), what is measured in it is not.
pub fn clock_set(to: &str) -> [String; 4] {
    let library = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let library = library.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
    let library = library.expect("libfaketime: make install-tools");
    let preload = format!("LD_PRELOAD={}", library.display());
    ["env".to_owned(), preload, format!("FAKETIME={to}"), "DONT_FAKE_MONOTONIC=1".to_owned()]
}
