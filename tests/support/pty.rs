//! A program at a terminal of its own, and what that terminal shows.
//!
//! The terminal is a pseudo-terminal of this machine; what a person would see is worked out by a
//! terminal emulator. For a program inside a booted host, see `hosts::terminal`.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, Signal, ioctl_tiocsctty, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::{process, wait};

/// Between two looks for what the program has written.
const PAUSE: Duration = Duration::from_millis(10);

/// What the program reads.
pub enum Input {
    /// The terminal.
    Terminal,
    /// A pipe that holds nothing more, as the one of `curl … | sh`.
    Pipe,
}

/// A program at a terminal. Dropped, it is killed.
pub struct Pty {
    child: Child,
    terminal: Option<File>,
    device: File,
    seen: Arc<Mutex<Seen>>,
    is_closed: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

struct Seen {
    parser: vt100::Parser,
    bytes: Vec<u8>,
}

impl Pty {
    /// Starts a program at a terminal with so many columns.
    pub fn start(command: &mut Command, columns: u16, input: Input) -> Self {
        // Whoever inherited it would keep the terminal open.
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let terminal = openpt(flags).expect("a pty");
        grantpt(&terminal).expect("a pty");
        unlockpt(&terminal).expect("a pty");
        let name = ptsname(&terminal, Vec::new()).expect("a pty has a name");
        let device = File::options()
            .read(true)
            .write(true)
            .open(name.to_str().expect("a path in UTF-8"))
            .expect("the terminal's device");
        let terminal = File::from(terminal);
        fcntl_setfl(&terminal, OFlags::RDWR | OFlags::NONBLOCK).expect("a terminal to poll");
        tcsetwinsize(&terminal, size(columns)).expect("a size");
        let side = || Stdio::from(device.try_clone().expect("a descriptor"));
        command.stdout(side()).stderr(side());
        command.stdin(match input {
            Input::Terminal => side(),
            Input::Pipe => Stdio::null(),
        });
        process::begin_as_after_a_login(command);
        // SAFETY: this is a single system call, which is allowed between fork and exec.
        unsafe {
            command.pre_exec(|| Ok(ioctl_tiocsctty(BorrowedFd::borrow_raw(2))?));
        }
        let child = command.spawn().expect("the program starts");
        // The command holds the device open; a terminal is closed only once nobody does.
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null());
        let seen = Arc::new(Mutex::new(Seen {
            parser: vt100::Parser::new(ROWS, columns, 1000),
            bytes: Vec::new(),
        }));
        let is_closed = Arc::new(AtomicBool::new(false));
        let reader = std::thread::spawn({
            let terminal = terminal.try_clone().expect("a descriptor");
            let (seen, is_closed) = (Arc::clone(&seen), Arc::clone(&is_closed));
            move || read(terminal, &seen, &is_closed)
        });
        Pty {
            child,
            terminal: Some(terminal),
            device,
            seen,
            is_closed,
            reader: Some(reader),
        }
    }

    /// What the terminal shows now.
    pub fn screen(&self) -> String {
        self.with(|seen| seen.parser.screen().contents())
    }

    /// Everything the program has written, with what moves the cursor and colours the text.
    pub fn written(&self) -> String {
        self.with(|seen| String::from_utf8_lossy(&seen.bytes).into_owned())
    }

    /// Whether a person sees where they type.
    pub fn has_cursor(&self) -> bool {
        !self.with(|seen| seen.parser.screen().hide_cursor())
    }

    /// Whether the terminal shows what is typed, and understands Ctrl-C: as a shell left it.
    pub fn is_as_a_shell_left_it(&self) -> bool {
        let modes = tcgetattr(self.device.as_fd())
            .expect("the modes")
            .local_modes;
        modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
    }

    /// Waits until the screen shows this.
    #[track_caller]
    pub fn wait_for(&self, text: &str, limit: Duration) {
        wait::until_true(
            &format!("{text:?} on the screen"),
            limit,
            || self.screen(),
            || self.screen().contains(text),
        );
    }

    /// Presses keys.
    pub fn press(&self, keys: &str) {
        let mut terminal = self.terminal.as_ref().expect("the terminal is open");
        terminal.write_all(keys.as_bytes()).expect("keys");
    }

    /// Makes the terminal as wide as this.
    pub fn resize(&self, columns: u16) {
        let terminal = self.terminal.as_ref().expect("the terminal is open");
        tcsetwinsize(terminal, size(columns)).expect("a size");
        self.with(|seen| seen.parser.screen_mut().set_size(ROWS, columns));
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a signal to our own child");
    }

    /// Closes the terminal, as who closes the window.
    pub fn close(&mut self) {
        self.is_closed.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader ends");
        }
        self.terminal = None;
    }

    /// Waits until the program ends, and returns its exit code.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> i32 {
        use std::os::unix::process::ExitStatusExt as _;
        let seen = Arc::clone(&self.seen);
        let shown = move || {
            let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.parser.screen().contents()
        };
        let child = &mut self.child;
        let status = wait::until("the program's end", limit, shown, || {
            child.try_wait().expect("the state of a child")
        });
        // What it wrote last is on its way.
        std::thread::sleep(PAUSE * 5);
        let code = status.code();
        code.or_else(|| status.signal().map(|signal| 128 + signal))
            .expect("a code or a signal")
    }

    fn with<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.close();
    }
}

/// As many as a person sees of a setup; what is above scrolls away.
const ROWS: u16 = 50;

fn size(columns: u16) -> Winsize {
    Winsize {
        ws_row: ROWS,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

fn read(mut terminal: File, seen: &Mutex<Seen>, is_closed: &AtomicBool) {
    let mut buffer = [0; 4096];
    while !is_closed.load(Ordering::Relaxed) {
        match terminal.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.bytes.extend(&buffer[..count]);
                seen.parser.process(&buffer[..count]);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(PAUSE),
            // The program has closed its side.
            Err(_) => return,
        }
    }
}
