//! The story: a pod is stretched, an array is killed and comes back, the link is cut and healed, and nothing is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::api::shapes::{PodShape, ResyncShape};
use crate::cli::{Bar, Failure, SizeBytes};
use crate::client::rest::{Client, ClientError};

use super::Scale;
use super::comparison::compare;
use super::content::Content;
use super::load::{Hosts, Load, LoadVolume};
use super::narrator::Narrator;
use super::oracle::Oracle;
use super::report::Report;
use super::resync_watch::ResyncWatch;
use super::sites::{Site, Sites};

const POD: &str = "demo";
/// Pause between two looks at the pod.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Longest wait for what takes no transfer: connections, elections, the right's return to the mediator.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(15);
/// From a fault on, the side that lost may still answer what was under way; after this time it must not.
const LOSER_TIME_MAX: Duration = Duration::from_millis(500);

/// Tells it; gives what was found.
pub(super) fn tell(
    sites: Sites,
    scale: Scale,
    content: &Arc<Content>,
    narrator: &Narrator,
) -> Result<Report, Failure> {
    let volumes = (1..=scale.volumes).map(|number| LoadVolume {
        name: format!("{POD}::vol{number}"),
        bytes: scale.volume_bytes,
        oracle: Oracle::new(scale.volume_bytes),
    });
    let hosts = Hosts::new(volumes.collect(), content.clone());
    let mut story = Story { sites, scale, narrator, hosts, report: Report::default() };
    story.connect()?;
    story.make_pod()?;
    let load = story.hosts.start()?;
    story.run_both(&load)?;
    story.lose_array()?;
    story.regain_array()?;
    story.run_both(&load)?;
    story.prefer_a()?;
    let survivor = story.cut_link()?;
    story.heal_link(survivor)?;
    story.run_both(&load)?;
    load.stop();
    story.finish()?;
    Ok(story.report)
}

struct Story<'a> {
    sites: Sites,
    scale: Scale,
    narrator: &'a Narrator,
    hosts: Arc<Hosts>,
    report: Report,
}

impl Story<'_> {
    fn connect(&mut self) -> Result<(), Failure> {
        let key = self.client(Site::B)?.connection_key()?.key;
        self.client(Site::A)?.connect(&self.sites.link_address(Site::B).to_string(), &key)?;
        self.wait("the arrays did not connect", |story| {
            let connected = |site| {
                let connections = story.client(site)?.connections()?;
                Ok::<_, Failure>(connections.iter().any(|connection| connection.status == "connected"))
            };
            Ok(connected(Site::A)? && connected(Site::B)?)
        })?;
        self.narrator.say("the arrays are connected");
        Ok(())
    }

    /// A pod at A, its volumes filled there, then stretched to B.
    fn make_pod(&mut self) -> Result<(), Failure> {
        let client = self.client(Site::A)?;
        client.create_pod(POD)?;
        for volume in &self.hosts.volumes {
            client.create_volume(&volume.name, volume.bytes)?;
        }
        for site in Site::BOTH {
            self.hosts.set_address(site, self.sites.nbd(site));
        }
        self.hosts.fill(Site::A, self.scale.fill_bytes)?;
        let filled = SizeBytes(self.scale.fill_bytes * self.scale.volumes as u64);
        self.narrator.say(&format!("pod {POD} is made at A, its volumes hold {filled} of real data"));
        client.stretch(POD, Site::B.name())?;
        (self.report.baseline, _) = self.wait_online("the baseline did not end")?;
        self.narrator.say("the pod is stretched: both arrays are online");
        Ok(())
    }

    /// Load at both sides, both of which must get on.
    fn run_both(&mut self, _load: &Load) -> Result<(), Failure> {
        let begin = Instant::now();
        self.sleep(self.scale.load)?;
        let end = Instant::now();
        let completed = Site::BOTH.map(|site| self.hosts.completed(site, begin, end));
        self.narrator
            .say(&format!("hosts write at both sides: {} at A, {} at B", completed[0], completed[1]));
        for site in Site::BOTH {
            if completed[site as usize] == 0 {
                self.report.problem(format!("no write completed at {} with both arrays online", site.name()));
            }
        }
        Ok(())
    }

    fn lose_array(&mut self) -> Result<(), Failure> {
        self.wait_for_the_right()?;
        let begin = Instant::now();
        self.sites.kill_array(Site::A);
        self.hosts.set_address(Site::A, None);
        self.narrator.say("array A is killed");
        self.sleep(self.scale.outage)?;
        let end = Instant::now();
        self.report.pause_kill = self.judge_survivor(Site::B, begin, end);
        Ok(())
    }

    fn regain_array(&mut self) -> Result<(), Failure> {
        self.sites.start_array(Site::A)?;
        self.hosts.set_address(Site::A, self.sites.nbd(Site::A));
        self.narrator.say("array A runs again and is brought level");
        let (resync, time) = self.wait_online("the resync after the kill did not end")?;
        self.narrator.say(&format!("both arrays are online, {:.1} s after A ran again", time.as_secs_f64()));
        (self.report.resync_kill, self.report.resync_kill_time) = (resync, time);
        Ok(())
    }

    /// Makes A the one that goes on, and waits until the mediator is the one to say so again.
    fn prefer_a(&mut self) -> Result<(), Failure> {
        self.client(Site::B)?.set_preference(POD, Some(Site::A.name()))?;
        self.narrator.say("pod demo prefers array A from now on");
        self.wait_for_the_right()
    }

    /// After a join the array that was ahead keeps the right until it has given it back to the mediator: only from then
    /// on may either side be lost.
    fn wait_for_the_right(&mut self) -> Result<(), Failure> {
        self.wait("the right did not return to the mediator", |story| {
            let returned = |site| {
                let pod = story.pod(site)?;
                let own = pod.arrays.first().is_some_and(|own| own.mediator_status == "online");
                Ok::<_, Failure>(own && pod.arrays.iter().all(|side| !side.pre_elected))
            };
            Ok(returned(Site::A)? && returned(Site::B)?)
        })
    }

    /// Cuts the link; gives the side that went on.
    fn cut_link(&mut self) -> Result<Site, Failure> {
        let begin = Instant::now();
        self.sites.stall_link(true);
        self.narrator.say("the link is cut; both arrays run");
        self.sleep(self.scale.outage)?;
        let end = Instant::now();
        let online = |site| {
            self.pod(site).is_ok_and(|pod| pod.arrays.first().is_some_and(|own| own.status == "online"))
        };
        let survivor = match (online(Site::A), online(Site::B)) {
            (true, false) => Site::A,
            (false, true) => Site::B,
            (true, true) => return Err(Failure::new("both arrays went on after the cut")),
            (false, false) => return Err(Failure::new("no array went on after the cut")),
        };
        if survivor != Site::A {
            self.report.problem("B went on after the cut although the pod prefers A");
        }
        let late = self.hosts.completed(survivor.other(), begin + LOSER_TIME_MAX, end);
        if late > 0 {
            self.report.problem(format!("{late} writes were acknowledged at the losing side"));
        }
        self.report.pause_cut = self.judge_survivor(survivor, begin, end);
        Ok(survivor)
    }

    fn heal_link(&mut self, survivor: Site) -> Result<(), Failure> {
        self.sites.stall_link(false);
        self.narrator.say(&format!("the link is healed; {} is brought level", survivor.other().name()));
        let (resync, time) = self.wait_online("the resync after the cut did not end")?;
        self.narrator
            .say(&format!("both arrays are online, {:.1} s after the link healed", time.as_secs_f64()));
        (self.report.resync_cut, self.report.resync_cut_time) = (resync, time);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Failure> {
        self.narrator.say("every block of both sides is compared");
        self.report.comparison = compare(&self.hosts)?;
        self.report.lost_under_load = self.hosts.lost();
        self.report.acknowledged_writes = self.hosts.acknowledged();
        self.report.took_s = self.narrator.elapsed_s();
        self.report.judge();
        Ok(())
    }

    /// How long hosts at the survivor waited; they must not have met an error.
    fn judge_survivor(&mut self, survivor: Site, begin: Instant, end: Instant) -> Option<super::load::Pause> {
        let name = survivor.name();
        if let Some(error) = self.hosts.errors(survivor, begin, end).first() {
            self.report.problem(format!("a host at the surviving array {name} met an error: {error}"));
        }
        let pause = self.hosts.pause(survivor, begin, end);
        match pause {
            Some(pause) => {
                let milliseconds = pause.gap.as_millis();
                self.narrator.say(&format!("array {name} goes on; its hosts waited {milliseconds} ms"));
            }
            None => self.report.problem(format!("no write completed at the surviving array {name}")),
        }
        pause
    }

    /// Waits until both arrays say that both are online. Gives what was transferred, and the time it took.
    fn wait_online(&mut self, failure: &str) -> Result<(ResyncShape, Duration), Failure> {
        let begin = Instant::now();
        let mut watches = Site::BOTH.map(|_| ResyncWatch::default());
        let mut bar = Bar::new();
        loop {
            self.sites.check()?;
            let pods = Site::BOTH.map(|site| self.pod(site));
            for (pod, watch) in pods.iter().zip(&mut watches) {
                let Ok(pod) = pod else { continue };
                watch.look(pod);
                draw(&mut bar, pod);
            }
            if pods.iter().all(|pod| pod.as_ref().is_ok_and(PodShape::is_online_on_both)) {
                // Both sides count; the one that saw more of it tells.
                let seen = watches.map(|watch| watch.total()).into_iter().max_by_key(|seen| seen.bytes_done);
                return Ok((seen.unwrap_or_default(), begin.elapsed()));
            }
            if begin.elapsed() > self.scale.resync_time_max {
                return Err(Failure::new(format_args!("{failure} in time: {}", self.states())));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits for something that takes no transfer.
    fn wait(&mut self, failure: &str, done: impl Fn(&Self) -> Result<bool, Failure>) -> Result<(), Failure> {
        let begin = Instant::now();
        loop {
            self.sites.check()?;
            if done(self)? {
                return Ok(());
            }
            if begin.elapsed() > SETTLE_TIME_MAX {
                return Err(Failure::new(format_args!("{failure} in time: {}", self.states())));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Lets time pass, and notices processes that end by themselves.
    fn sleep(&mut self, time: Duration) -> Result<(), Failure> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.sites.check()?;
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// How each array sees the pod, in words.
    fn states(&self) -> String {
        let seen = Site::BOTH.map(|site| match self.pod(site) {
            Ok(pod) => {
                let sides = pod.arrays.iter().map(|side| format!("{} {}", side.name, side.status));
                format!("{} sees {}", site.name(), sides.collect::<Vec<_>>().join(" and "))
            }
            Err(error) => format!("{} does not say ({error})", site.name()),
        });
        seen.join(", ")
    }

    fn pod(&self, site: Site) -> Result<PodShape, ClientError> {
        self.client(site)?.pod(POD)
    }

    fn client(&self, site: Site) -> Result<Client, ClientError> {
        let unreachable =
            || ClientError::Unreachable { tried: site.name().to_owned(), why: "it is down".to_owned() };
        self.sites.client(site).ok_or_else(unreachable)
    }
}

fn draw(bar: &mut Bar, pod: &PodShape) {
    let behind = pod.arrays.iter().find_map(|side| side.resync.map(|resync| (side, resync)));
    let Some((side, resync)) = behind else { return };
    let eta = resync.eta_ms.map_or_else(|| "unknown".to_owned(), |milliseconds| format!("{milliseconds} ms"));
    let rest =
        format!("left {eta}, wire {}, saved {}", SizeBytes(resync.bytes_wire), SizeBytes(resync.bytes_saved));
    bar.draw(&format!("{} at {}", side.status, side.name), side.progress.unwrap_or(0.0), &rest);
}
