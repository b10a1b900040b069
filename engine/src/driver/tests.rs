//! What leaves the driver, and in which order, whatever its threads do.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use metropod_core::BulkPort;
use metropod_journal::media::Io;
use metropod_journal::media::real::RealMedia;

use super::*;
use crate::array::{Options, core_config};
use crate::identity::Identity;
use crate::mediator::{MediatorConfig, serve};
use crate::status::SideStatus;

const PATIENCE: Duration = Duration::from_secs(20);

/// No links, no key.
struct Nowhere;

impl Outside for Nowhere {
    fn queue(&self, _: ArrayId, _: Channel, _: Vec<Bytes>) {}
    fn flush(&self) {}
    fn disconnect(&self, _: ArrayId, _: Channel) {}
    fn sign(&self, _: &Statement) -> Bytes {
        Bytes::new()
    }
    fn fit(&self, _: bool) {}
    fn status_changed(&self, _: PodId) {}
    fn alarm(&self, _: Alarm) {}
}

impl BulkPort for Nowhere {
    fn send(&self, _: ArrayId, _: Vec<Bytes>) {}
}

/// Numbers of the requests asked, in order. Whoever asks first is held up until another has asked, or for a second.
#[derive(Default)]
struct Slow {
    begun: AtomicBool,
    asked: Mutex<Vec<u64>>,
}

impl Slow {
    fn asked(&self) -> Vec<u64> {
        self.asked.lock().unwrap().clone()
    }
}

impl Asking for Arc<Slow> {
    fn queue(&self, request: &MediatorRequest) {
        if !self.begun.swap(true, Ordering::AcqRel) {
            let began = Instant::now();
            while self.asked().is_empty() && began.elapsed() < Duration::from_secs(1) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        self.asked.lock().unwrap().push(request.request);
    }

    fn flush(&self) {}
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "{what} takes too long");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Leaves the directory of an array that is one of a pair, the right at the mediator; gives the directory and the mediator.
fn stretched(home: &Path) -> (PathBuf, MediatorId) {
    let config =
        MediatorConfig { listen: "127.0.0.1:0".parse().unwrap(), ..MediatorConfig::new(&home.join("M")) };
    let mediator = serve(config).unwrap();
    let open = |name: &str| {
        let options = Options {
            journal_bytes: 128 << 20,
            mediator: Some(mediator.address()),
            ..Options::new(name, home.join(name))
        };
        crate::Array::open(options).unwrap()
    };
    let (a, b) = (open("A"), open("B"));
    b.connect(a.address(), &a.connection_key().unwrap()).unwrap();
    until("connecting", || a.connections().iter().any(|c| c.sync_up && c.bulk_up));
    block_on(a.create_pod("pod1")).unwrap();
    block_on(a.stretch("pod1", "B")).unwrap();
    until("stretching", || {
        a.pod("pod1").is_some_and(|pod| {
            pod.arrays.len() == 2
                && pod.arrays.iter().all(|side| side.status == SideStatus::Online && !side.pre_elected)
        })
    });
    a.close();
    b.close();
    (home.join("A"), mediator.id())
}

/// The array of a directory, with nothing outside.
fn start(directory: &Path) -> Arc<Driver> {
    let options = Options { journal_bytes: 128 << 20, ..Options::new("A", directory) };
    let identity = Identity::open_or_create(directory).unwrap();
    let config = core_config(&options, &identity).unwrap();
    let media: Arc<dyn Media> = Arc::new(RealMedia::create(directory).unwrap());
    let opening = metropod_core::Array::open(config, Io::inline(media.clone()), Arc::new(Nowhere), now());
    Driver::start(block_on(opening).unwrap(), media, Arc::new(Nowhere))
}

#[test]
fn asks_of_the_mediator_leave_in_the_order_of_steps_and_in_the_session_that_these_knew() {
    let home = tempfile::tempdir_in(".").unwrap();
    let (directory, mediator) = stretched(home.path());
    let driver = start(&directory);
    // The other array stays away, so this one asks for the right, and again every half second.
    let first = Arc::new(Slow::default());
    driver.mediator_up(mediator, Box::new(first.clone()));
    until("asking", || {
        driver.tell(Input::Tick);
        first.asked().len() >= 3
    });
    driver.mediator_down();
    let asked = first.asked();
    assert!(asked.is_sorted(), "asked in the order {asked:?}");
    let second = Arc::new(Slow::default());
    driver.mediator_up(mediator, Box::new(second.clone()));
    until("asking again", || second.asked().len() >= 2);
    assert_eq!(first.asked(), asked, "nothing more in the session that is over");
    assert!(
        second.asked().iter().all(|request| request > asked.last().unwrap()),
        "nothing of it in the next"
    );
    assert!(driver.stop(PATIENCE));
}
