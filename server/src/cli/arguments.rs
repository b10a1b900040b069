//! The grammar of the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::address::address;
use super::bench_options::BenchOptions;
use super::size::SizeBytes;
use super::span::SpanMs;

/// Active/active block-storage replication: two arrays hold the same volumes, and one goes on when the other is lost.
#[derive(Debug, Parser)]
#[command(name = "metropod", version, max_term_width = 110)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs an array: volumes over NBD, management over REST
    Serve(ServeOptions),
    /// Runs a mediator: decides which array goes on when two lose sight of each other
    Mediator(MediatorOptions),
    /// Runs the complete two-site story on this machine, checked, with a summary
    Demo(DemoOptions),
    /// Measures this machine: every figure beside what it is compared with, and every byte checked
    Bench(BenchOptions),
    /// A process that `bench` starts
    #[command(hide = true)]
    BenchPart {
        /// What it is to do
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Reads an array's files offline and explains them
    Inspect(InspectOptions),
    /// The array itself and its connections to others
    Array(Group<ArrayVerb>),
    /// Reading and proving everything stored
    Scrub(Group<ScrubVerb>),
    /// Pods: groups of volumes that are replicated together
    Pod(Group<PodVerb>),
    /// Volumes
    Volume(Group<VolumeVerb>),
    /// Snapshots
    Snapshot(Group<SnapshotVerb>),
}

/// Options of `serve`.
#[derive(Debug, Args)]
pub struct ServeOptions {
    /// The array's name: 1 to 63 letters, digits or '-', unique among connected arrays
    #[arg(long)]
    pub name: String,
    /// The array's own directory; made if it is missing
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Where other arrays connect (port 0: any free one)
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7750", value_parser = address)]
    pub listen: SocketAddr,
    /// Where other arrays are told to connect [default: where they see this one]
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    pub advertise: Option<SocketAddr>,
    /// Where the REST API listens
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8750", value_parser = address)]
    pub api: SocketAddr,
    /// Where NBD clients connect
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:10809", value_parser = address)]
    pub nbd: SocketAddr,
    /// The mediator, as this array reaches it
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    pub mediator: Option<SocketAddr>,
    /// Journal budget, at least 128M
    #[arg(long, value_name = "SIZE", default_value = "1G")]
    pub journal_bytes: SizeBytes,
    /// What stored data may take, at least 256M; the journal and some percent come on top [default: the file system's size]
    #[arg(long, value_name = "SIZE")]
    pub capacity: Option<SizeBytes>,
    /// How much stored data is read and proven per second, once a week or on request
    #[arg(long, value_name = "SIZE", default_value = "32M")]
    pub scrub_rate: SizeBytes,
    /// Ends when stdin closes: for a parent that must not leave its children behind
    #[arg(long, hide = true)]
    pub until_stdin_closes: bool,
}

/// Options of `mediator`.
#[derive(Debug, Args)]
pub struct MediatorOptions {
    /// The mediator's own directory; made if it is missing
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Where arrays connect (port 0: any free one)
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7760", value_parser = address)]
    pub listen: SocketAddr,
    /// Ends when stdin closes
    #[arg(long, hide = true)]
    pub until_stdin_closes: bool,
}

/// Options of `demo`.
#[derive(Debug, Args)]
pub struct DemoOptions {
    /// Small volumes: at most 30 seconds
    #[arg(long)]
    pub quick: bool,
    /// Prints the figures as one JSON document
    #[arg(long)]
    pub json: bool,
    /// An empty directory for the demo's files, kept afterwards [default: a fresh one, removed afterwards]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Fills the volumes from this file instead of files found on the machine
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
}

/// Options of `inspect`.
#[derive(Debug, Args)]
pub struct InspectOptions {
    /// An array's directory; the array must not be running
    pub directory: PathBuf,
    /// Prints one JSON document
    #[arg(long)]
    pub json: bool,
}

/// A group of management verbs: clients of the REST API.
#[derive(Debug, Args)]
pub struct Group<V: Subcommand> {
    /// How to reach an array.
    #[command(flatten)]
    pub remote: Remote,
    /// The verb.
    #[command(subcommand)]
    pub verb: V,
}

/// How to reach an array's API, and how to answer.
#[derive(Debug, Args)]
pub struct Remote {
    /// The array's REST API; several, separated by commas, are tried in order
    #[arg(
        long,
        value_name = "URL",
        env = "METROPOD_API",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:8750",
        global = true
    )]
    pub api: Vec<String>,
    /// Prints one JSON document
    #[arg(long, global = true)]
    pub json: bool,
}

/// Verbs of `array`.
#[derive(Debug, Subcommand)]
pub enum ArrayVerb {
    /// Shows the array
    Show,
    /// Makes a one-time key with which another array can connect, valid for ten minutes
    ConnectionKey,
    /// Connects this array to another
    Connect {
        /// The other array's listen address
        #[arg(long, value_name = "HOST:PORT")]
        address: String,
        /// A key made by `array connection-key` at the other array
        #[arg(long)]
        key: String,
    },
    /// Lists connected arrays
    Connections,
    /// Gives back the space of what was overwritten, trimmed or eradicated now, and waits until it is done
    Collect,
    /// Shows whose the space is, as of when that was last counted
    Space {
        /// Counts it now, which reads all maps and the index, and waits until it is done
        #[arg(long)]
        now: bool,
    },
}

/// Verbs of `scrub`.
#[derive(Debug, Subcommand)]
pub enum ScrubVerb {
    /// Begins to read and prove everything stored; one that is under way goes on
    Start {
        /// Waits until it is done, and fails if something is rotten
        #[arg(long)]
        wait: bool,
    },
    /// Stops it
    Stop,
    /// Shows how far it is, or how the last one ended
    Show,
}

/// Verbs of `pod`.
#[derive(Debug, Subcommand)]
pub enum PodVerb {
    /// Makes a pod on this array alone
    Create {
        /// Its name
        pod: String,
    },
    /// Lists pods
    List,
    /// Shows one pod
    Show {
        /// Its name
        pod: String,
    },
    /// Says for each thing that may be lost which arrays go on, and why
    Forecast {
        /// Its name
        pod: String,
    },
    /// Says why a pod is as it is at this array, and what was decided when
    Explain {
        /// Its name
        pod: String,
    },
    /// Stretches a pod to a connected array
    Stretch {
        /// Its name
        pod: String,
        /// The array to stretch it to
        #[arg(long, value_name = "ARRAY")]
        to: String,
        /// Waits until both arrays are online
        #[arg(long)]
        wait: bool,
    },
    /// Has one array of a stretched pod order its writes, which spares its hosts a way to the other array and back
    Switch {
        /// Its name
        pod: String,
        /// The array that is to order
        #[arg(long, value_name = "ARRAY")]
        to: String,
        /// Waits until it does
        #[arg(long)]
        wait: bool,
    },
    /// Takes a stretched pod from one of its arrays; the other goes on alone
    Unstretch {
        /// Its name
        pod: String,
        /// The array that is to hold it no more: its copy becomes a destroyed pod, called POD-left, that can be recovered there
        #[arg(long, value_name = "ARRAY")]
        from: String,
        /// Also if that array is not heard; it hears of it when it is back
        #[arg(long)]
        with_unknown: bool,
        /// Waits until it is done
        #[arg(long)]
        wait: bool,
    },
    /// Changes a pod's settings
    Set {
        /// Its name
        pod: String,
        /// The array that goes on when both could; an empty name: whichever is first
        #[arg(long, value_name = "ARRAY")]
        failover_preference: Option<String>,
        /// Bound on the sum of the volumes' sizes, destroyed ones included; 0: none
        #[arg(long, value_name = "SIZE")]
        quota: Option<SizeBytes>,
        /// How long what is destroyed from now on can be recovered, for instance 24h or 7d
        #[arg(long, value_name = "SPAN")]
        eradication_delay: Option<SpanMs>,
        /// The pod's mediator
        #[arg(long, value_name = "ADDR:PORT")]
        mediator: Option<String>,
    },
    /// Takes a pod that is at one array out of use; it is eradicated after its eradication delay
    Destroy {
        /// Its name
        pod: String,
        /// With the volumes that it holds
        #[arg(long)]
        contents: bool,
    },
    /// Takes a destroyed pod into use again, as it was
    Recover {
        /// Its name
        pod: String,
    },
    /// Removes a destroyed pod for good, without waiting
    Eradicate {
        /// Its name
        pod: String,
        /// With the volumes that it holds
        #[arg(long)]
        contents: bool,
    },
}

/// Verbs of `volume`.
#[derive(Debug, Subcommand)]
pub enum VolumeVerb {
    /// Makes an empty volume
    Create {
        /// pod::volume
        volume: String,
        /// For instance 10G or 512M (powers of two), or bytes
        #[arg(long)]
        size: SizeBytes,
    },
    /// Lists volumes
    List {
        /// Shows what they take, as of when that was last counted
        #[arg(long)]
        space: bool,
    },
    /// Shows one volume
    Show {
        /// pod::volume
        volume: String,
        /// Counts the bytes in use, which reads the volume's whole map
        #[arg(long)]
        measure: bool,
    },
    /// Changes a volume's size
    Resize {
        /// pod::volume
        volume: String,
        /// For instance 10G or 512M (powers of two), or bytes
        #[arg(long)]
        size: SizeBytes,
        /// Lets the volume get smaller and lose what lies beyond
        #[arg(long)]
        truncate: bool,
    },
    /// Makes a volume with the content of a volume or snapshot of the same pod
    Copy {
        /// pod::volume or pod::volume.suffix
        source: String,
        /// pod::volume
        volume: String,
        /// Gives that content to a volume that exists; what it held is lost
        #[arg(long)]
        overwrite: bool,
    },
    /// Moves a volume and its snapshots to another pod of this array, at no cost; hosts connect to it as POD::volume from then on
    Move {
        /// pod::volume; its pod is not stretched
        volume: String,
        /// The pod that it goes to: not stretched either, and without a volume of this name
        pod: String,
    },
    /// Shows where two volumes or snapshots differ
    Diff {
        /// pod::volume or pod::volume.suffix
        first: String,
        /// pod::volume or pod::volume.suffix
        second: String,
    },
    /// Limits what hosts may ask of a volume, at each array
    Set {
        /// pod::volume
        volume: String,
        /// Requests in a second; 0: no limit
        #[arg(long, value_name = "N")]
        iops_limit: Option<u64>,
        /// Bytes in a second, for instance 100M; 0: no limit
        #[arg(long, value_name = "SIZE")]
        bandwidth_limit: Option<SizeBytes>,
    },
    /// Takes a volume and its snapshots out of use; they are eradicated after the pod's eradication delay
    Destroy {
        /// pod::volume
        volume: String,
    },
    /// Takes a destroyed volume into use again, as it was
    Recover {
        /// pod::volume
        volume: String,
    },
    /// Removes a destroyed volume and its snapshots for good, without waiting
    Eradicate {
        /// pod::volume
        volume: String,
    },
}

/// Verbs of `snapshot`.
#[derive(Debug, Subcommand)]
pub enum SnapshotVerb {
    /// Takes a snapshot of a volume, or of all volumes of a pod in one cut
    Create {
        /// pod::volume or pod
        of: String,
        /// What follows the dot in its name [default: made from the time]
        #[arg(long)]
        suffix: Option<String>,
    },
    /// Lists snapshots
    List,
    /// Gives the volume the content it had then; what it held since is lost
    Restore {
        /// pod::volume.suffix
        snapshot: String,
    },
    /// Takes a snapshot out of use; it is eradicated after the pod's eradication delay
    Destroy {
        /// pod::volume.suffix
        snapshot: String,
    },
    /// Takes a destroyed snapshot into use again
    Recover {
        /// pod::volume.suffix
        snapshot: String,
    },
    /// Removes a destroyed snapshot for good, without waiting
    Eradicate {
        /// pod::volume.suffix
        snapshot: String,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::error::ErrorKind> {
        let words = std::iter::once("metropod").chain(line.split_whitespace());
        Arguments::try_parse_from(words).map(|arguments| arguments.command).map_err(|error| error.kind())
    }

    #[test]
    fn the_grammar_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn api_is_a_listen_address_for_serve_and_urls_for_verbs() {
        let Ok(Command::Serve(options)) =
            parse("serve --name A --data d --api 127.0.0.1:0 --journal-bytes 128M")
        else {
            panic!("serve is understood")
        };
        assert_eq!((options.api.port(), options.journal_bytes.0), (0, 128 << 20));
        assert_eq!((options.listen.port(), options.nbd.port()), (7750, 10809));
        for line in ["pod list --api http://a,http://b --json", "pod --api http://a,http://b --json list"] {
            let Ok(Command::Pod(group)) = parse(line) else { panic!("{line}") };
            assert_eq!(group.remote.api, ["http://a", "http://b"]);
            assert!(group.remote.json);
        }
    }

    #[test]
    fn every_verb_is_understood() {
        for line in [
            "mediator --data d --listen 127.0.0.1:0",
            "demo --quick --json --data d --image f",
            "inspect d",
            "bench write --quick --json --csv c --plot p --dir d --rounds 7 --depth 32 --steady --size 8G",
            "bench overwrite --writes 20000000 --capacity 8G",
            "bench-part --as-array A d",
            "array show",
            "array connection-key",
            "array connect --address 127.0.0.1:7750 --key k",
            "array connections",
            "array space --now",
            "volume list --space",
            "pod create p",
            "pod show p",
            "pod stretch p --to B --wait",
            "pod switch p --to B --wait",
            "pod unstretch p --from B --with-unknown --wait",
            "pod set p --failover-preference A --quota 1T --eradication-delay 7d",
            "pod destroy p --contents",
            "pod recover p",
            "pod eradicate p --contents",
            "volume create p::v --size 10G",
            "volume list",
            "volume show p::v --measure",
            "snapshot create p --suffix s",
            "volume resize p::v --size 20G --truncate",
            "volume copy p::v.s p::w --overwrite",
            "volume move p::v q",
            "volume diff p::v p::v.s",
            "volume set p::v --iops-limit 100 --bandwidth-limit 10M",
            "volume destroy p::v",
            "volume recover p::v",
            "volume eradicate p::v",
            "snapshot list",
            "snapshot restore p::v.s",
            "snapshot destroy p::v.s",
            "snapshot recover p::v.s",
            "snapshot eradicate p::v.s",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn what_is_missing_or_malformed_is_a_usage_error() {
        for line in [
            "serve --name A",
            "serve --name A --data d --nbd nowhere",
            "volume create p::v",
            "volume create p::v --size ten",
            "pod stretch p",
            "pod unstretch p",
            "pod set p --eradication-delay soon",
            "volume resize p::v",
            "volume copy p::v",
            "array connect --address 127.0.0.1:1",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
