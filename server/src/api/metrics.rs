//! `/metrics`: the array's state in Prometheus' text format.

use std::fmt::Write;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use metropod::{
    Array, ArrayStatus, ConnectionStatus, MediatorWord, PodStatus, ScrubStatus, SideStatus, SpaceCount,
    SpaceShares, VolumeStatus,
};

const STATUSES: [SideStatus; 7] = [
    SideStatus::Online,
    SideStatus::Paused,
    SideStatus::Suspended,
    SideStatus::Baselining,
    SideStatus::Resyncing,
    SideStatus::Offline,
    SideStatus::Unknown,
];

pub(super) async fn text(State(array): State<Array>) -> impl IntoResponse {
    let body = render(
        &array.status(),
        &array.scrub(),
        &array.pods(),
        &array.connections(),
        &array.volumes(),
        array.alarms().len(),
        &array.space(),
    );
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], body)
}

fn render(
    status: &ArrayStatus,
    scrub: &ScrubStatus,
    pods: &[PodStatus],
    connections: &[ConnectionStatus],
    volumes: &[VolumeStatus],
    alarms: usize,
    count: &SpaceCount,
) -> String {
    let mut out = Families::default();
    out.family("metropod_info", "gauge", "The array and its program's version.");
    out.sample(&[("array", &status.name), ("id", &status.id), ("version", env!("CARGO_PKG_VERSION"))], 1);
    out.single("metropod_journal_used_bytes", "Journal bytes in use.", status.journal_bytes);
    out.single("metropod_journal_budget_bytes", "Journal budget.", status.journal_budget_bytes);
    out.single("metropod_store_chunks", "Chunks stored.", status.chunks);
    out.single(
        "metropod_store_logical_bytes",
        "Size of the stored chunks before compression.",
        status.logical_bytes,
    );
    out.single("metropod_store_stored_bytes", "Size of the stored chunks as stored.", status.stored_bytes);
    let (space, collection) = (&status.space, &status.collection);
    out.single("metropod_space_used_bytes", "Length of the files of chunks.", space.used_bytes);
    if let (Some(capacity), Some(free)) = (space.capacity_bytes, space.free_bytes) {
        out.single("metropod_space_capacity_bytes", "What files of chunks may take.", capacity);
        out.single("metropod_space_free_bytes", "What new data may still take.", free);
    }
    out.single("metropod_collections", "Collections that ended well since the start.", collection.passes);
    out.single("metropod_collections_failed", "Collections that failed since the start.", collection.failed);
    out.single("metropod_collected_bytes", "Garbage found since the start.", collection.dead_bytes);
    out.single("metropod_moved_bytes", "Bytes moved to give files back.", collection.moved_bytes);
    out.single("metropod_scrub_done_bytes", "Bytes read by this scrub, or the last.", scrub.bytes_done);
    out.single("metropod_scrub_total_bytes", "Bytes that it reads in all.", scrub.bytes_total);
    out.single("metropod_scrub_findings", "Things that it found rotten.", scrub.findings);
    out.single(
        "metropod_repair_found",
        "Lost chunks that the other array could be asked for.",
        scrub.chunks_found,
    );
    out.single("metropod_repair_done", "Of those, repaired from it.", scrub.chunks_repaired);
    out.single("metropod_repair_failed", "Of those, not to be had.", scrub.chunks_not_repairable);
    out.single("metropod_scrubs", "Scrubs that ended well since the start.", scrub.finished);
    out.single("metropod_volumes", "Volumes.", volumes.len() as u64);
    out.single("metropod_alarms", "Alarms since the start that are still kept.", alarms as u64);
    let mediator_up = u64::from(status.mediator_status == MediatorWord::Online);
    out.single("metropod_mediator_up", "Whether the mediator answers.", mediator_up);

    out.family("metropod_connection_up", "gauge", "Whether a connection to another array is up.");
    for connection in connections {
        for (channel, up) in [("sync", connection.sync_up), ("bulk", connection.bulk_up)] {
            out.sample(&[("peer", &connection.name), ("channel", channel)], u64::from(up));
        }
    }
    out.family("metropod_pod_status", "gauge", "1 for the status a pod has at an array, 0 for the others.");
    for pod in pods {
        for side in &pod.arrays {
            for status in STATUSES {
                let labels =
                    [("pod", pod.name.as_str()), ("array", side.name.as_str()), ("status", status.word())];
                out.sample(&labels, u64::from(side.status == status));
            }
        }
    }
    out.family("metropod_pod_sequencer", "gauge", "Whether an array orders a pod's writes.");
    for pod in pods {
        for side in &pod.arrays {
            out.sample(&[("pod", &pod.name), ("array", &side.name)], u64::from(side.sequencer));
        }
    }
    out.family("metropod_pod_epoch_number", "gauge", "Number of a pod's newest configuration.");
    for pod in pods {
        out.sample(&[("pod", &pod.name)], pod.epoch.number);
    }
    out.family("metropod_pod_size_bytes", "gauge", "Sum of the sizes of a pod's volumes.");
    for pod in pods {
        out.sample(&[("pod", &pod.name)], pod.size_bytes);
    }
    out.family("metropod_pod_resync_bytes", "gauge", "A resync under way.");
    for pod in pods {
        for side in &pod.arrays {
            let Some(resync) = side.resync else { continue };
            for (kind, bytes) in [
                ("logical", resync.bytes_logical),
                ("done", resync.bytes_done),
                ("referenced", resync.bytes_referenced),
                ("compressed", resync.bytes_compressed),
                ("wire", resync.bytes_wire),
            ] {
                out.sample(&[("pod", &pod.name), ("array", &side.name), ("kind", kind)], bytes);
            }
        }
    }
    if let Some(shares) = &count.newest {
        space_shares(&mut out, shares, pods, volumes);
    }
    out.text
}

/// Whose the space is: kinds add up to the length of the files of chunks and what is staged, but for the overhead.
fn space_shares(out: &mut Families, shares: &SpaceShares, pods: &[PodStatus], volumes: &[VolumeStatus]) {
    out.single("metropod_space_count_age_ms", "How old the count of the space is.", shares.as_of_ms_ago);
    out.family("metropod_space_share_bytes", "gauge", "Whose the space is, by the newest count.");
    for (kind, bytes) in [
        ("unique", shares.unique_bytes),
        ("shared", shares.shared_bytes),
        ("snapshots", shares.snapshots_bytes),
        ("held", shares.held_bytes),
        ("map", shares.map_bytes),
        ("unattributed", shares.unattributed_bytes),
        ("cleanable", shares.cleanable_bytes),
        ("freed", shares.freed_bytes),
    ] {
        out.sample(&[("kind", kind)], bytes);
    }
    out.single("metropod_space_logical_bytes", "Bytes in use in volumes, by it.", shares.logical_bytes);
    out.single(
        "metropod_space_missing_chunks",
        "Chunks that are needed and not here.",
        shares.missing_chunks,
    );
    out.family("metropod_pod_space_bytes", "gauge", "What a pod takes here, by the newest count.");
    for (pod, space) in pods.iter().filter_map(|pod| Some((pod, pod.space?))) {
        for (kind, bytes) in [
            ("logical", space.logical_bytes),
            ("unique", space.unique_bytes),
            ("shared", space.shared_bytes),
            ("snapshots", space.snapshots_bytes),
        ] {
            out.sample(&[("pod", &pod.name), ("kind", kind)], bytes);
        }
    }
    out.family("metropod_volume_space_bytes", "gauge", "What a volume takes here, by the newest count.");
    for (volume, space) in volumes.iter().filter_map(|volume| Some((volume, volume.space?))) {
        for (kind, bytes) in [
            ("logical", Some(space.logical_bytes)),
            ("unique", Some(space.unique_bytes)),
            ("shared", space.shared_bytes),
            ("snapshots", Some(space.snapshots_bytes)),
        ] {
            let Some(bytes) = bytes else { continue };
            out.sample(&[("volume", &volume.name), ("kind", kind)], bytes);
        }
    }
}

/// Text under construction; samples belong to the family begun last.
#[derive(Default)]
struct Families {
    text: String,
    family: &'static str,
}

impl Families {
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn single(&mut self, name: &'static str, help: &str, value: u64) {
        self.family(name, "gauge", help);
        self.sample(&[], value);
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: u64) {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
        let name = self.family;
        if labels.is_empty() {
            self.line(format_args!("{name} {value}"));
        } else {
            self.line(format_args!("{name}{{{}}} {value}", labels.join(",")));
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{line}").expect("a string takes any text");
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use metropod::{Epoch, PodId, PodSide, PodSpace};

    use super::*;

    #[test]
    fn a_pods_status_is_one_sample_of_value_1_per_array() {
        let status = ArrayStatus {
            name: "A".into(),
            id: "00".into(),
            listen: "127.0.0.1:1".into(),
            mediator_status: MediatorWord::Online,
            journal_bytes: 7,
            journal_budget_bytes: 9,
            chunks: 0,
            logical_bytes: 0,
            stored_bytes: 0,
            space: Default::default(),
            collection: Default::default(),
        };
        let side = PodSide {
            name: "A".into(),
            status: SideStatus::Paused,
            sequencer: true,
            pre_elected: false,
            leaving: false,
            mediator_status: MediatorWord::Online,
            progress: None,
            resync: None,
        };
        let pod = PodStatus {
            name: "p\"q".into(),
            id: PodId([0; 16]),
            epoch: Epoch { era: 0, number: 4 },
            arrays: vec![side],
            failover_preference: None,
            volumes: 0,
            size_bytes: 0,
            quota_bytes: None,
            provisioned_bytes: 0,
            eradication_delay_ms: 0,
            eradicated_in_ms: None,
            space: Some(PodSpace { unique_bytes: 5, ..PodSpace::default() }),
        };
        let shares = SpaceShares { unique_bytes: 5, map_bytes: 3, ..SpaceShares::default() };
        let count = SpaceCount { newest: Some(shares), ..SpaceCount::default() };
        let text = render(&status, &ScrubStatus::default(), &[pod], &[], &[], 0, &count);
        assert!(text.contains("metropod_space_share_bytes{kind=\"map\"} 3\n"));
        assert!(text.contains("metropod_pod_space_bytes{pod=\"p\\\"q\",kind=\"unique\"} 5\n"));
        assert!(text.contains("metropod_journal_used_bytes 7\n"));
        assert!(text.contains("metropod_pod_status{pod=\"p\\\"q\",array=\"A\",status=\"paused\"} 1\n"));
        assert!(text.contains("metropod_pod_status{pod=\"p\\\"q\",array=\"A\",status=\"online\"} 0\n"));
        let ones =
            text.lines().filter(|line| line.starts_with("metropod_pod_status") && line.ends_with(" 1"));
        assert_eq!(ones.count(), 1);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<f64>().is_ok()), "{line}");
        }
    }
}
