//! Random faults and their end.

use metropod_core::Channel;
use metropod_journal::media::Cause;
use metropod_journal::media::sim::{Fault, Operation};

use super::site::SiteEvent;
use super::{Event, Nanos, Pair, ms};

pub(super) enum FaultEvent {
    /// The next random fault.
    Strike,
    Restart {
        site: usize,
    },
    Thaw {
        site: usize,
    },
    Unstick {
        site: usize,
    },
    MendLink,
    MendPath {
        site: usize,
    },
    StartMediator,
    EndBurst,
    EndSlow {
        site: usize,
    },
    /// Whoever runs the array notices that its journal has failed, and starts it again.
    Replace {
        site: usize,
    },
}

/// A fault of one site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SiteFault {
    /// The power fails.
    Power,
    /// The process is killed.
    Kill,
    /// The process stands still.
    Freeze,
    /// The disk answers nothing.
    Stuck,
}

/// How a run goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Plan {
    /// How long faults strike.
    pub faults: Nanos,
    /// Longest pause between two faults.
    pub pause: Nanos,
    /// Longest single fault.
    pub longest: Nanos,
}

impl Pair {
    /// Random faults strike until `span` has passed.
    pub(super) fn strike_for(&mut self, span: Nanos) {
        self.faults_until = self.now + span;
        self.after(0, Event::Fault(FaultEvent::Strike));
    }

    pub(super) fn fault_event(&mut self, event: FaultEvent) {
        match event {
            FaultEvent::Strike => self.strike(),
            FaultEvent::Restart { site } => {
                let cut_percent = if self.now < self.faults_until { 15 } else { 0 };
                self.boot_with(site, cut_percent);
            }
            FaultEvent::Thaw { site } => self.thaw(site),
            FaultEvent::Unstick { site } => self.unstick(site),
            FaultEvent::MendLink => self.block([false; 2]),
            FaultEvent::MendPath { site } => self.mediator_path(site, true),
            FaultEvent::StartMediator => self.start_mediator(),
            FaultEvent::EndBurst => self.network.burst = 0,
            FaultEvent::EndSlow { site } => self.sites[site].slow = false,
            FaultEvent::Replace { site } => {
                if self.now >= self.faults_until {
                    return;
                }
                let span = self.random.below(ms(300));
                self.hurt(site, SiteFault::Kill, span);
            }
        }
    }

    fn strike(&mut self) {
        if self.now >= self.faults_until {
            return;
        }
        let pause = self.random.below(self.plan.pause.max(1));
        self.after(pause, Event::Fault(FaultEvent::Strike));
        let site = self.random.below(2) as usize;
        let span = match self.random.below(3) {
            0 => self.random.below(ms(100)),
            1 => self.random.below(ms(600)),
            _ => self.random.below(self.plan.longest.max(1)),
        };
        match self.random.below(27) {
            0..3 => self.hurt(site, SiteFault::Power, span),
            3 => {
                // The power fails at some effect on the media.
                let effects = self.random.below(40);
                self.log(|| format!("{site} will lose power after {effects} effects"));
                self.sites[site].media.cut_power_after(effects);
            }
            4..6 => self.hurt(site, SiteFault::Kill, span),
            6 => {
                self.hurt(site, SiteFault::Power, span);
                let other = self.random.below(ms(300));
                self.hurt(1 - site, SiteFault::Power, other);
            }
            7..10 => self.cut([true; 2], span),
            10 => self.cut([site == 0, site == 1], span),
            11..13 => {
                self.close(Channel::Sync);
                if self.random.chance(50) {
                    self.close(Channel::Bulk);
                }
            }
            13 => self.close(Channel::Bulk),
            14..16 => {
                self.mediator_path(site, false);
                self.after(span, Event::Fault(FaultEvent::MendPath { site }));
            }
            16..18 => {
                self.stop_mediator();
                self.after(span, Event::Fault(FaultEvent::StartMediator));
            }
            18 => self.hurt(site, SiteFault::Freeze, span),
            19 => self.hurt(site, SiteFault::Stuck, span),
            20 => {
                self.network.burst = self.random.below(ms(120));
                self.after(span, Event::Fault(FaultEvent::EndBurst));
            }
            21 => {
                self.sites[site].slow = true;
                self.after(span, Event::Fault(FaultEvent::EndSlow { site }));
            }
            22 => self.fail_background(site),
            23 => {
                self.log(|| format!("{site}'s journal will fail"));
                let nth = 1 + self.random.below(20);
                self.sites[site].media.fail_nth(Some(Operation::DurableWrite), nth, Fault::ERROR);
                self.after(span, Event::Fault(FaultEvent::Replace { site }));
            }
            _ => self.site_after(0, site, SiteEvent::Checkpoint),
        }
        // An armed power cut brings no restart of its own.
        for site in 0..2 {
            if self.sites[site].array.is_none() && self.random.chance(30) {
                let span = self.random.below(ms(500));
                self.after(span, Event::Fault(FaultEvent::Restart { site }));
            }
        }
    }

    /// Some call that destaging, checkpoints or segments make will fail, perhaps several times, and a checkpoint is asked for.
    fn fail_background(&mut self, site: usize) {
        const CALLS: [Operation; 6] = [
            Operation::Create,
            Operation::Write,
            Operation::Sync,
            Operation::SyncDir,
            Operation::Rename,
            Operation::Remove,
        ];
        for _ in 0..1 + self.random.below(3) {
            let call = CALLS[self.random.below(CALLS.len() as u64) as usize];
            let nth = 1 + self.random.below(6);
            let fault = if self.random.chance(50) { Fault::ERROR } else { Fault::Fail(Cause::NoSpace) };
            self.log(|| format!("{site}: {call:?} number {nth} will meet {fault:?}"));
            self.sites[site].media.fail_nth(Some(call), nth, fault);
        }
        self.site_after(0, site, SiteEvent::Checkpoint);
    }

    /// A fault of one site, which ends after `span`.
    pub fn hurt(&mut self, site: usize, fault: SiteFault, span: Nanos) {
        match fault {
            SiteFault::Power | SiteFault::Kill => {
                self.crash(site, fault == SiteFault::Kill);
                self.after(span, Event::Fault(FaultEvent::Restart { site }));
            }
            SiteFault::Freeze => {
                if self.sites[site].array.is_some() {
                    self.log(|| format!("{site} freezes"));
                    self.sites[site].frozen = true;
                }
                self.after(span, Event::Fault(FaultEvent::Thaw { site }));
            }
            SiteFault::Stuck => {
                self.log(|| format!("{site}'s disk is stuck"));
                self.sites[site].stuck = true;
                self.after(span, Event::Fault(FaultEvent::Unstick { site }));
            }
        }
    }

    /// Cuts ways between the arrays, by sender; now and then the connections do not live through it.
    fn cut(&mut self, blocked: [bool; 2], span: Nanos) {
        self.block(blocked);
        self.after(span, Event::Fault(FaultEvent::MendLink));
        if self.random.chance(50) {
            self.close(Channel::Sync);
        }
        if self.random.chance(50) {
            self.close(Channel::Bulk);
        }
    }

    /// Every fault ends.
    pub fn end_faults(&mut self) {
        self.log(|| "faults end".into());
        self.faults_until = self.now;
        self.network.burst = 0;
        self.block([false; 2]);
        self.start_mediator();
        for site in 0..2 {
            self.sites[site].slow = false;
            self.sites[site].media.heal();
            let now = self.sites[site].clock(self.now);
            if self.array(site).is_some_and(|array| !array.is_fit(now)) {
                // Its journal may have failed for good.
                self.crash(site, true);
            }
            self.thaw(site);
            self.unstick(site);
            self.mediator_path(site, true);
            self.boot(site);
        }
    }
}
