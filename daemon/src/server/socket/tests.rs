//! Does one daemon own the socket, and nobody else?

use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, Output, Stdio};
use std::sync::Barrier;

use tempfile::TempDir;

use super::*;

/// Set for a child of a test that plays a daemon: the folder to start in.
const CHILD: &str = "SESS_TEST_SOCKET_CHILD";

fn config(folder: &Path) -> Config {
    Config {
        socket: folder.join("run/sess.sock"),
        data_dir: folder.join("data"),
        state_dir: folder.join("state"),
        credentials_dir: None,
        log_filter: "info".to_owned(),
        socket_passed: false,
        handed_over: false,
        notify_socket: None,
        watchdog: None,
    }
}

fn start() -> (TempDir, Config) {
    let temp = tempfile::tempdir().unwrap();
    let config = config(temp.path());
    (temp, config)
}

fn refused(config: &Config, exit: Exit, words: &str) {
    let err = Socket::take(config).unwrap_err();
    assert_eq!(err.exit, exit, "{err}");
    assert!(err.to_string().contains(words), "{err}");
}

#[test]
fn all_that_is_made_is_for_the_owner_only_and_the_socket_goes_with_its_owner() {
    let (_temp, config) = start();
    let socket = Socket::take(&config).unwrap();

    assert!(!socket.is_adopted());
    for (path, mode) in [
        (config.socket.clone(), 0o600),
        (config.socket.with_extension("sock.lock"), 0o600),
        (config.data_dir.join(STORE_LOCK), 0o600),
        (config.data_dir.clone(), 0o700),
        (config.socket.parent().unwrap().to_owned(), 0o700),
    ] {
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode, "{}", path.display());
    }
    UnixStream::connect(&config.socket).unwrap();

    drop(socket);
    assert!(!config.socket.exists());
}

#[test]
fn a_second_owner_is_told_the_pid_of_the_first_and_may_follow_it() {
    let (_temp, config) = start();
    let first = Socket::take(&config).unwrap();

    refused(&config, Exit::OtherOwner, &format!("(pid {}) owns socket", std::process::id()));
    UnixStream::connect(&config.socket).unwrap();

    drop(first);
    Socket::take(&config).unwrap();
}

#[test]
fn of_many_starters_at_once_over_a_stale_socket_one_wins() {
    let (_temp, config) = start();
    drop(Socket::take(&config).unwrap());
    let stale = UnixListener::bind(&config.socket).unwrap();
    UnixStream::from(OwnedFd::from(stale)).shutdown(Shutdown::Both).unwrap();
    let barrier = Barrier::new(32);

    let results: Vec<_> = std::thread::scope(|scope| {
        let starter = || {
            barrier.wait();
            Socket::take(&config)
        };
        let starters: Vec<_> = (0..32).map(|_| scope.spawn(starter)).collect();
        starters.into_iter().map(|it| it.join().unwrap()).collect()
    });

    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert!(lost.into_iter().all(|it| it.unwrap_err().exit == Exit::OtherOwner));
    UnixStream::connect(&config.socket).unwrap();
}

#[test]
fn two_sockets_cannot_share_a_store() {
    let (temp, config) = start();
    let _first = Socket::take(&config).unwrap();
    let other = Config { socket: temp.path().join("other/sess.sock"), ..config };

    refused(&other, Exit::OtherOwner, "owns store");
    assert!(!other.socket.exists());
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let (_temp, config) = start();
    drop(Socket::take(&config).unwrap());
    let squatter = UnixListener::bind(&config.socket).unwrap();

    refused(&config, Exit::OtherOwner, "something else listens");
    // Not by dropping alone: a process that another test starts holds a copy until its exec.
    UnixStream::from(OwnedFd::from(squatter)).shutdown(Shutdown::Both).unwrap();
    assert!(config.socket.exists());

    let _owner = Socket::take(&config).unwrap();
    UnixStream::connect(&config.socket).unwrap();
}

#[test]
fn what_is_no_socket_is_left_where_it_is() {
    let (_temp, config) = start();
    drop(Socket::take(&config).unwrap());
    fs::write(&config.socket, "precious").unwrap();

    refused(&config, Exit::Unsafe, "not a socket");
    assert_eq!(fs::read_to_string(&config.socket).unwrap(), "precious");
}

#[test]
fn a_socket_that_took_the_place_of_ours_outlives_us() {
    let (_temp, config) = start();
    let ours = Socket::take(&config).unwrap();
    // Bound beside it first, so that it cannot be given the inode of the one that goes.
    let beside = config.socket.with_extension("new");
    let _theirs = UnixListener::bind(&beside).unwrap();
    fs::rename(&beside, &config.socket).unwrap();

    drop(ours);
    UnixStream::connect(&config.socket).unwrap();
}

#[test]
fn a_link_in_the_place_of_the_lock_is_not_followed() {
    let (temp, config) = start();
    drop(Socket::take(&config).unwrap());
    let lock = config.socket.with_extension("sock.lock");
    fs::remove_file(&lock).unwrap();
    symlink(temp.path().join("elsewhere"), &lock).unwrap();

    refused(&config, Exit::Io, "lock");
    assert!(!temp.path().join("elsewhere").exists());
}

#[test]
fn a_socket_folder_open_to_others_is_refused() {
    let (_temp, config) = start();
    let folder = config.socket.parent().unwrap();
    fs::create_dir(folder).unwrap();
    fs::set_permissions(folder, Permissions::from_mode(0o750)).unwrap();

    refused(&config, Exit::Unsafe, "mode 750");
}

#[test]
fn a_path_of_107_bytes_is_served_and_a_longer_one_refused() {
    let (temp, config) = start();
    let length = SOCKET_PATH_BYTES_MAX - temp.path().as_os_str().len() - "/r/".len();
    let folder = temp.path().join("r");

    let fits = Config { socket: folder.join("s".repeat(length)), ..config };
    let _socket = Socket::take(&fits).unwrap();
    UnixStream::connect(&fits.socket).unwrap();

    let longer = Config { socket: folder.join("s".repeat(length + 1)), ..fits };
    refused(&longer, Exit::Unsafe, "has 108 bytes");
    let none = Config { socket: PathBuf::from("/"), ..longer };
    refused(&none, Exit::Unsafe, "cannot be a socket's path");
}

#[tokio::test]
async fn the_peer_is_known_by_the_kernel() {
    let (_temp, config) = start();
    let socket = Socket::take(&config).unwrap();
    let listener = socket.listener().unwrap();
    let _client = UnixStream::connect(&config.socket).unwrap();

    let (stream, _) = listener.accept().await.unwrap();
    let peer = peer(&stream).unwrap();

    let me = i32::try_from(std::process::id()).unwrap();
    assert_eq!(peer, Peer { uid: geteuid().as_raw(), pid: Some(me) });
    assert!(peer.is_own_user());
    assert!(!Peer { uid: peer.uid + 1, pid: None }.is_own_user());
}

/// Runs [`child`] as a process of its own, with `passed` as its descriptor 3.
fn run_child(folder: &Path, passed: OwnedFd) -> Output {
    let test = "server::socket::tests::child";
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" 3<&0 </dev/null";
    Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
        .env(CHILD, folder)
        .stdin(Stdio::from(passed))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .unwrap()
}

#[test]
#[ignore = "run by other tests as a process of its own"]
fn child() {
    let folder = PathBuf::from(std::env::var_os(CHILD).expect("only run by other tests"));
    let mut config = config(&folder);
    config.socket_passed = true;
    match Socket::take(&config) {
        Err(err) => println!("refused {}: {err}", err.exit as u8),
        Ok(socket) => {
            assert!(socket.is_adopted());
            assert!(std::env::var_os("LISTEN_FDS").is_none());
            let (mut stream, _) = socket.listener.accept().unwrap();
            stream.write_all(b"served").unwrap();
        }
    }
}

#[test]
fn a_passed_socket_is_adopted_and_its_file_is_not_ours() {
    let (temp, config) = start();
    let path = temp.path().join("passed.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let mut client = UnixStream::connect(&path).unwrap();

    let output = run_child(temp.path(), listener.into());

    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    assert_eq!(said, "served", "{output:?}");
    assert!(output.status.success(), "{output:?}");
    assert!(path.exists() && !config.socket.exists());
    assert!(config.data_dir.join(STORE_LOCK).exists());
}

#[test]
fn what_is_not_a_listening_stream_socket_is_not_adopted() {
    let (temp, _config) = start();
    let (end, _other) = UnixStream::pair().unwrap();
    let (datagram, _other_datagram) = UnixDatagram::pair().unwrap();
    let file = File::create(temp.path().join("file")).unwrap();

    for passed in [OwnedFd::from(end), datagram.into(), file.into()] {
        let output = run_child(temp.path(), passed);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("refused 77"), "{output:?}");
    }
}
