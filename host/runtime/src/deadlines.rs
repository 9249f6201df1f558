//! The clock by which calls are bounded: one thread that lets time go on for all engines while guests run.
//!
//! It stands still when no guest has run for a while, so that an idle proxy does not wake its machine up. Whoever gives
//! a guest its turn says so ([`note_turn`]), which costs one look at a word that hardly ever changes.
//!
//! Why no guest gets away: time goes on for [`LINGER`] ticks after every turn, and a guest's next look at the time is at
//! most [`FIRST_SLICE`](crate::stopwatch::FIRST_SLICE) ticks ahead when its turn begins. However late it comes to look, it
//! finds that its slice is over; and what happens then begins with another note.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::{Engine, EngineWeak};

/// How often calls that still run are looked at. A runaway call is cut at most three ticks of its run time after its
/// deadline: two in its first slice, which nobody watches, and one before it is looked at again. A tick costs one atomic
/// add.
pub(crate) const TICK: Duration = Duration::from_millis(2);

/// Ticks without a turn after which the clock stands still. Far more than a slice has, so that the moment at which two
/// threads see each other's writes is of no account.
const LINGER: u32 = 100;

/// A turn was given since the last tick.
static TURN: AtomicBool = AtomicBool::new(false);
/// The clock stands still.
static STILL: AtomicBool = AtomicBool::new(false);
/// Those that live; the others are taken out when one joins.
static ENGINES: Mutex<Vec<EngineWeak>> = Mutex::new(Vec::new());
static CLOCK: OnceLock<Thread> = OnceLock::new();

/// From now on, the clock goes for this engine too, until its last clone is gone.
///
/// # Errors
///
/// When no thread can be started.
pub(crate) fn keep_for(engine: &Engine) -> wasmtime::Result<()> {
    let mut engines = engines();
    engines.retain(|other| other.upgrade().is_some());
    engines.push(engine.weak());
    if CLOCK.get().is_none() {
        let clock = thread::Builder::new()
            .name("deadlines".into())
            .spawn(run)
            .map_err(|e| wasmtime::format_err!("no thread for the deadline clock: {e}"))?;
        // Nobody else has: the engines are locked.
        CLOCK.get_or_init(|| clock.thread().clone());
    }
    Ok(())
}

/// A guest gets its turn now.
pub(crate) fn note_turn() {
    if !TURN.load(Ordering::Relaxed) {
        first_turn();
    }
}

/// The first since the last tick.
#[cold]
fn first_turn() {
    // In one order with the same two words in `run`: one of both sees what the other wrote.
    TURN.store(true, Ordering::SeqCst);
    if STILL.load(Ordering::SeqCst)
        && let Some(clock) = CLOCK.get()
    {
        clock.unpark();
    }
}

fn run() {
    let mut without = 0;
    loop {
        thread::sleep(TICK);
        for engine in engines().iter().filter_map(EngineWeak::upgrade) {
            engine.increment_epoch();
        }
        match TURN.swap(false, Ordering::SeqCst) {
            true => without = 0,
            false => without += 1,
        }
        if without >= LINGER {
            stand_still();
            without = 0;
        }
    }
}

/// Until the next turn.
fn stand_still() {
    STILL.store(true, Ordering::SeqCst);
    while !TURN.load(Ordering::SeqCst) {
        thread::park();
    }
    STILL.store(false, Ordering::SeqCst);
}

fn engines() -> MutexGuard<'static, Vec<EngineWeak>> {
    // Each is put in as a whole, so the list is whole even after a panic.
    ENGINES.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use wasmtime::{Config, Module, Store};

    use super::*;

    /// What never ends by itself.
    const SPIN: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x08\x01\x04spin\0\0\x0a\x09\x01\x07\0\x03\x40\x0c\0\x0b\x0b";

    #[test]
    fn a_guest_that_runs_after_the_clock_stood_still_is_interrupted() {
        let engine = Engine::new(Config::new().epoch_interruption(true)).expect("an engine");
        keep_for(&engine).expect("a thread");
        let module = Module::new(&engine, SPIN).expect("a module");
        let mut store = Store::new(&engine, ());
        // Other tests of this process may run guests, or not: the clock may stand still or go.
        for _ in 0..3 {
            store.set_epoch_deadline(2);
            note_turn();
            let instance = wasmtime::Instance::new(&mut store, &module, &[]).expect("no imports");
            let spin = instance.get_typed_func::<(), ()>(&mut store, "spin");
            let ended = spin.expect("it is exported").call(&mut store, ());
            let trap = ended.expect_err("it never ends by itself");
            assert_eq!(trap.downcast_ref(), Some(&wasmtime::Trap::Interrupt));
            while !STILL.load(Ordering::SeqCst) && !others_run() {
                thread::yield_now();
            }
        }
    }

    /// Whether a turn was noted since the last tick, as by other tests.
    fn others_run() -> bool {
        TURN.load(Ordering::SeqCst)
    }
}
