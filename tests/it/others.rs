//! Do other users of the machine get anything: by wrong folders, by a door of theirs, by a file that we leave open?
//!
//! Root ignores modes, so the daemon and the client run here as a user that is nobody else's.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use sess_tests::bins;
use sess_tests::figures::figure;
use sess_tests::harness::daemon::Folder;
use sess_tests::harness::daemon::SABOTAGE_VARIABLE;
use sess_tests::harness::{Daemon, Plan, within};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;

/// The user of these stories, and another.
const ME: u32 = 12_345;
const SOMEBODY_ELSE: u32 = 65_534;
/// How a command ends that cannot reach a daemon, and a daemon whose place is not safe.
const UNREACHABLE: i32 = 3;
const UNSAFE: i32 = 77;

fn set(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A home of that user, with the programs in it, which may lie where only root gets.
struct Home(Folder);

impl Home {
    fn new() -> Home {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests become other users, so they run as root"
        );
        let folder = Folder::new();
        for name in ["sess", "sessd"] {
            bins::install(name, folder.path());
        }
        chown(folder.path(), Some(ME), Some(ME)).unwrap();
        Home(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A folder in it.
    fn folder(&self, name: &str, owner: u32, mode: u32) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).unwrap();
        chown(&path, Some(owner), Some(owner)).unwrap();
        set(&path, mode);
        path
    }

    /// A line of the shell as a user, in a home in which nothing but `PATH` is set.
    fn shell(&self, user: u32, line: &str) -> Command {
        let id = user.to_string();
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", &id, "--regid", &id, "--clear-groups", "sh", "-c", line])
            .env_clear()
            .envs(std::env::var_os(SABOTAGE_VARIABLE).map(|it| (SABOTAGE_VARIABLE, it)))
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.0.path())
            .env("SESS_SOCKET", self.path("run/s"))
            .env("OLLAMA_HOST", "127.0.0.1:1")
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, user: u32, line: &str) -> (i32, String, String) {
        let done = within(line, self.shell(user, line).output()).await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (done.status.code().unwrap_or(-1), text(&done.stdout), text(&done.stderr))
    }
}

#[tokio::test]
async fn a_place_that_others_can_change_is_refused_and_left_as_it_is() {
    let mut refused = 0;
    for name in ["run", "data", "state"] {
        let own = [
            (ME, 0o777),
            (ME, 0o770),
            (ME, 0o707),
            (ME, 0o1777),
            (SOMEBODY_ELSE, 0o700),
            (0, 0o755),
        ];
        let mut wrong = own.to_vec();
        if name == "run" {
            wrong.extend([(ME, 0o750), (ME, 0o701), (ME, 0o755)]);
        }
        for (owner, mode) in wrong {
            let home = Home::new();
            let folder = home.folder(name, owner, mode);
            let (code, _, words) = home.run(ME, &daemon_line("")).await;
            // What cannot even be looked into is an error of reading.
            assert!(
                [UNSAFE, 74].contains(&code),
                "{name} of {owner} with {mode:o}: {code} {words}"
            );
            let meta = std::fs::metadata(folder).unwrap();
            assert_eq!((meta.uid(), meta.mode() & 0o7777), (owner, mode), "{name}");
            refused += 1;
        }
    }
    figure("R22", "folders open to others in which a daemon started", 0, refused);
}

fn daemon_line(before: &str) -> String {
    format!("{before} SESS_DATA_DIR=$HOME/data SESS_STATE_DIR=$HOME/state exec ./sessd")
}

#[tokio::test]
async fn a_parent_in_which_anybody_may_rename_is_no_place() {
    for name in ["run", "data", "state"] {
        let home = Home::new();
        let open = home.folder("open", ME, 0o777);
        home.folder(&format!("open/{name}"), ME, 0o700);
        let inner = open.join(name);
        let variable = match name {
            "run" => format!("export SESS_SOCKET={}/s;", inner.display()),
            "data" => format!("D={};", inner.display()),
            _ => format!("S={};", inner.display()),
        };
        let line = format!(
            "{variable} SESS_DATA_DIR=${{D:-$HOME/data}} SESS_STATE_DIR=${{S:-$HOME/state}} exec ./sessd"
        );
        let (code, _, words) = home.run(ME, &line).await;
        assert_eq!(code, UNSAFE, "{name}: {words}");
        assert!(words.contains("everybody can replace it"), "{words}");
        set(&open, 0o1777);
        let mut sticky = home.shell(ME, &line).stderr(Stdio::piped()).spawn().unwrap();
        let words = sticky.stderr.take().unwrap();
        within("its start", until_said(words, "serving")).await;
        sticky.kill().await.unwrap();
    }
}

/// Reads what a program says until this is in a line.
async fn until_said(from: impl AsyncRead + Unpin, wanted: &str) {
    let mut lines = BufReader::new(from).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.contains(wanted) {
            return;
        }
    }
    panic!("it ended and never said `{wanted}`");
}

#[tokio::test]
async fn a_link_in_the_place_of_a_folder_or_a_file_leads_nowhere() {
    for name in ["run", "data/sess.db", "data/sessd.lock", "run/s.lock"] {
        let home = Home::new();
        for folder in ["run", "data", "state"] {
            home.folder(folder, ME, 0o700);
        }
        let (target, link) = (home.path("elsewhere"), home.path(name));
        if name == "run" {
            std::fs::remove_dir(&link).unwrap();
            home.folder("elsewhere", ME, 0o700);
        } else {
            std::fs::write(&target, "precious").unwrap();
            chown(&target, Some(ME), Some(ME)).unwrap();
        }
        symlink(&target, &link).unwrap();
        let (code, _, words) = home.run(ME, &daemon_line("")).await;
        assert!([UNSAFE, 65, 74].contains(&code), "{name}: {code} {words}");
        if name == "run" {
            assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0, "{name}");
        } else {
            assert_eq!(std::fs::read(&target).unwrap(), b"precious", "{name}");
        }
    }
}

#[tokio::test]
async fn a_socket_that_somebody_else_put_there_is_told_nothing() {
    let home = Home::new();
    // As open as a folder for sockets ever was.
    home.folder("run", ME, 0o777);
    let squat = "import socket,sys\n\
        s=socket.socket(socket.AF_UNIX); s.bind('run/s'); s.listen()\n\
        import os; os.chmod('run/s',0o666); print('there',flush=True)\n\
        c,_=s.accept(); c.settimeout(5)\n\
        print(len(c.recv(4096)),flush=True)";
    let mut command = home.shell(SOMEBODY_ELSE, &format!("exec python3 -c \"{squat}\""));
    chown(home.0.path(), Some(ME), Some(ME)).unwrap();
    set(home.0.path(), 0o755);
    let mut squatter = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut heard = BufReader::new(squatter.stdout.take().unwrap()).lines();
    assert_eq!(within("the squatter", heard.next_line()).await.unwrap().unwrap(), "there");
    let (code, stdout, words) = home.run(ME, "exec ./sess ls").await;
    assert_eq!((code, stdout.as_str()), (UNREACHABLE, ""), "{words}");
    assert!(words.contains("belongs to user 65534"), "{words}");
    assert_eq!(within("what it heard", heard.next_line()).await.unwrap().unwrap(), "0");
}

#[tokio::test]
async fn a_root_of_a_namespace_of_another_user_is_that_other_user() {
    let daemon = Daemon::start().await;
    for (path, mode) in [
        (daemon.plan().folder().to_owned(), 0o755),
        (daemon.plan().socket().parent().unwrap().to_owned(), 0o777),
        (daemon.plan().socket(), 0o666),
    ] {
        set(&path, mode);
    }
    let script = "import os,socket\n\
        d=socket.socket(socket.AF_UNIX); d.settimeout(5); d.connect(os.environ['SESS_SOCKET'])\n\
        got=b''\n\
        try:\n\
        \x20d.sendall(b'{\\\"id\\\":1,\\\"method\\\":\\\"session/create\\\",\\\"params\\\":{}}\\n'*10)\n\
        \x20while p:=d.recv(4096): got+=p\n\
        except (BrokenPipeError,ConnectionResetError): pass\n\
        print(os.getuid(),len(got))";
    let home = Home::new();
    let line = format!("exec unshare --user --map-root-user python3 -c \"{script}\"");
    let mut command = home.shell(SOMEBODY_ELSE, &line);
    set(home.0.path(), 0o755);
    command.env("SESS_SOCKET", daemon.plan().socket()).stderr(Stdio::inherit());
    let done = within("the other root", command.output()).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&done.stdout), "0 0\n", "root there, served nothing here");
    let list = daemon.wire().await.ok("session/list", serde_json::json!({"empty": true})).await;
    assert_eq!(list["sessions"], serde_json::json!([]));
}

/// Everything that lies below a folder.
fn all_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        found.push(path.clone());
        if path.symlink_metadata().unwrap().is_dir() {
            all_below(&path, found);
        }
    }
}

/// What a person does with it in a day, and then some.
const FULL_DAY: &str = "set -e
./sess chat hello
head -c 300000 /dev/zero | tr '\\0' a > long.txt; ./sess chat -c 'see' -a long.txt
head -c 200000 /dev/zero | tr '\\0' b | ./sess chat -
./sess config set backup.daily true
printf secret-key | ./sess login some
./sess agents; ./sess ls; ./sess models
ID=$(./sess new)
./sess rename $ID other
./sess chat -s $ID again
./sess export $ID -o out.jsonl; ./sess export $ID -o out.html
./sess rm $ID
./sess import out.jsonl
./sess backup
./sess daemon restart
./sess daemon stop
./sess doctor
printf x | dd of=data/store.json bs=1 seek=3 conv=notrunc 2>/dev/null
./sess doctor
./sess chat 'after the doctor'";

#[tokio::test]
async fn whatever_the_mask_is_each_file_that_we_make_is_ours_alone() {
    let mut files = 0;
    for mask in ["000", "022"] {
        let home = Home::new();
        let line = format!(
            "umask {mask}; export SESS_DATA_DIR=$HOME/data SESS_STATE_DIR=$HOME/state; {FULL_DAY}"
        );
        let (code, stdout, words) = home.run(ME, &line).await;
        assert_eq!(code, 0, "{stdout}\n{words}");
        let pid: u32 =
            std::fs::read_to_string(home.path("run/s.lock")).unwrap().trim().parse().unwrap();
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|it| it.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
        // What is not dumpable belongs to root in /proc.
        assert_eq!(std::fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid(), 0);
        let mut all = Vec::new();
        all_below(home.0.path(), &mut all);
        // The programs, and what the person wrote.
        all.retain(|it| !["sess", "sessd", "long.txt"].iter().any(|name| *it == home.path(name)));
        for path in &all {
            let meta = path.symlink_metadata().unwrap();
            let wanted = if meta.is_dir() { 0o700 } else { 0o600 };
            // Exports are the person's own files, made as any program makes them.
            let is_export = path.file_stem().is_some_and(|it| it == "out");
            let is_fine = is_export || meta.mode() & 0o777 == wanted;
            assert!(is_fine, "umask {mask}: {} has mode {:o}", path.display(), meta.mode());
            assert_eq!(meta.uid(), ME, "{}", path.display());
            assert!(meta.is_dir() || meta.is_file() || meta.file_type().is_socket());
        }
        files += all.len();
        let (code, _, words) = home.run(ME, "exec ./sess daemon stop").await;
        assert_eq!(code, 0, "{words}");
    }
    figure("R22", "files and folders of ours that others may read", 0, files);
}

#[tokio::test]
async fn nothing_listens_on_the_network() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    wire.turn(&session, "hello").await;
    let sockets: Vec<String> = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid()))
        .unwrap()
        .filter_map(|it| std::fs::read_link(it.unwrap().path()).ok())
        .filter_map(|it| {
            it.to_str()?.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned)
        })
        .collect();
    assert!(!sockets.is_empty(), "its own are seen");
    for table in ["tcp", "tcp6", "udp", "udp6", "raw", "raw6"] {
        let text = std::fs::read_to_string(format!("/proc/{}/net/{table}", daemon.pid())).unwrap();
        for line in text.lines().skip(1) {
            let inode = line.split_whitespace().nth(9).unwrap_or_default();
            assert!(!sockets.iter().any(|it| it == inode), "{table}: {line}");
        }
    }
    let plan: &Plan = daemon.plan();
    assert!(plan.socket().exists());
}
