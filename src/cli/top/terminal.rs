//! The terminal of `top`: taken whole, and given back however it ends.

use std::io::{self, Write};
use std::sync::Once;

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
    disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{execute, queue};

use super::super::output::{Out, Screen};
use super::frame::Frame;

/// Held while it draws. Dropped: the terminal is as it was.
pub(super) struct Terminal {
    screen: Screen,
}

impl Terminal {
    pub(super) fn take() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let hook = std::panic::take_hook();
            // What it says must not be said on a screen that goes away.
            std::panic::set_hook(Box::new(move |panic| {
                give_back();
                hook(panic);
            }));
        });
        enable_raw_mode()?;
        let taken = Self { screen: Screen::of_stdout() };
        execute!(Direct, EnterAlternateScreen, Hide)?;
        Ok(taken)
    }

    /// As many lines as there is room for, in one piece: nothing flickers.
    pub(super) fn draw(&mut self, frame: &Frame, out: Out) -> io::Result<()> {
        let (width, height) = size().map_or((80, 24), |(width, height)| (usize::from(width), usize::from(height)));
        let mut drawn = Vec::new();
        queue!(drawn, BeginSynchronizedUpdate)?;
        for (row, line) in frame.lines_within(width, height).iter().enumerate() {
            // As many rows as a terminal has.
            queue!(drawn, MoveTo(0, u16::try_from(row).unwrap_or(u16::MAX)), Clear(ClearType::UntilNewLine))?;
            drawn.extend_from_slice(line.shown(self.screen).as_bytes());
        }
        queue!(drawn, Clear(ClearType::FromCursorDown), EndSynchronizedUpdate)?;
        out.write_all(&drawn)?;
        out.flush()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    // There is nobody left to tell.
    let _ = execute!(Direct, EndSynchronizedUpdate, LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

/// Standard output without its lock: a thread that panics must not wait for the one that draws.
struct Direct;

impl Write for Direct {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(rustix::stdio::stdout(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
