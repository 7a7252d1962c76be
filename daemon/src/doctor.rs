//! How is everything on this machine, and what of a damaged store can be saved? Told as one line of JSON.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::config::{Config, Exit, StartError};
use crate::documents::Documents;
use crate::folder::{Others, own_folder};
use crate::server::socket::lock_store;
use crate::store::sqlite::{self, About, Missing, OpenError, Part, Saved};

/// Looks at everything and tells it; saves what can be saved where the store is damaged, unless that is only to
/// be told.
pub(crate) fn run(config: &Config, dry: bool) -> Result<Exit, StartError> {
    let about = sqlite::about(&config.data_dir);
    let mut told = Map::new();
    told.insert("facts".into(), facts(config, &about));
    told.insert("warnings".into(), warnings(config).into());
    let exit = if config.data_dir.exists() {
        store(config, dry, &mut told)?
    } else {
        told.insert("status".into(), "new".into());
        Exit::Done
    };
    let _ = writeln!(std::io::stdout(), "{}", Value::Object(told));
    Ok(exit)
}

fn store(config: &Config, dry: bool, told: &mut Map<String, Value>) -> Result<Exit, StartError> {
    let dir = &config.data_dir;
    let lock = match lock_store(config) {
        Err(err) if err.exit == Exit::OtherOwner => None,
        other => Some(other?),
    };
    let checked = match &lock {
        Some(_) => {
            sqlite::settle(dir).map_err(|err| crate::refused(&err.into()))?;
            sqlite::check(dir)
        }
        None => sqlite::check_in_use(dir),
    };
    let (faults, counts) = match checked {
        Ok(report) => {
            let counts = (report.sessions, report.commits);
            (report.faults.into_iter().map(|it| it.text).collect(), counts)
        }
        Err(OpenError::Damaged(text)) => (vec![text], (0, 0)),
        Err(err) => return Err(crate::refused(&err)),
    };
    let is_healthy = faults.is_empty();
    told.insert("running".into(), lock.is_none().into());
    told.insert("faults".into(), json!(faults));
    told.insert("checked".into(), json!({"sessions": counts.0, "commits": counts.1}));
    if is_healthy || lock.is_none() {
        told.insert("status".into(), if is_healthy { "healthy" } else { "damaged" }.into());
        return Ok(if is_healthy { Exit::Done } else { Exit::Missing });
    }
    told.insert("dry".into(), dry.into());
    let so_far = told.clone();
    let keep = move |saved: &Saved, path: &Path| {
        let mut told = so_far.clone();
        tell(saved, &mut told);
        let mut file =
            std::fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
        writeln!(file, "{}", Value::Object(told))?;
        file.sync_all()
    };
    let saved = sqlite::save(dir, if dry { None } else { Some(&keep) });
    Ok(tell(&saved.map_err(|err| crate::refused(&err))?, told))
}

fn tell(saved: &Saved, told: &mut Map<String, Value>) -> Exit {
    let (status, exit) = match () {
        () if saved.is_all() => ("saved", Exit::Done),
        () if saved.is_nothing() => ("nothing", Exit::Missing),
        () => ("missing", Exit::Missing),
    };
    told.insert("status".into(), status.into());
    told.insert(
        "saved".into(),
        json!({"sessions": saved.sessions, "commits": saved.commits, "from_backup": saved.from_backup}),
    );
    told.insert("missing".into(), saved.missing.iter().map(missing).collect());
    told.insert("unknown".into(), json!(saved.unknown));
    told.insert("aside".into(), json!(saved.aside));
    exit
}

fn missing(missing: &Missing) -> Value {
    match &missing.what {
        Part::Events { first, last } => {
            json!({"session": missing.session, "first": first, "last": last})
        }
        Part::Blob(hash) => {
            json!({"session": missing.session, "blob": format!("sha256:{hash}")})
        }
    }
}

fn facts(config: &Config, about: &About) -> Value {
    let place = |path: &Path| match std::fs::metadata(path) {
        Ok(meta) => json!({"path": path, "mode": format!("{:o}", meta.mode() & 0o7777)}),
        Err(_) => json!({"path": path, "mode": null}),
    };
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "socket": place(&config.socket),
        "data": place(&config.data_dir),
        "state": place(&config.state_dir),
        "store": {
            "bytes": about.bytes, "log_bytes": about.log_bytes, "free_bytes": free(&config.data_dir),
            "schema": about.schema, "schema_known": about.known, "sqlite": about.sqlite,
        },
        "backups": {"count": about.backups.len(), "newest": about.backups.last(), "at": about.backed_up_at},
        "set_aside": about.asides,
    })
}

/// Bytes that are free where the store lies.
fn free(dir: &Path) -> Option<u64> {
    let found = nix::sys::statvfs::statvfs(dir).ok()?;
    Some(found.blocks_available().saturating_mul(found.fragment_size()))
}

/// What is wrong beside the store.
fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let socket = config.socket.parent().map(|it| (it, Others::Nothing));
    let folders = [
        Some((config.data_dir.as_path(), Others::Look)),
        Some((config.state_dir.as_path(), Others::Look)),
        socket,
    ];
    // Only those that are there: looking must not make one.
    for (folder, others) in
        folders.into_iter().flatten().filter(|it| it.0.symlink_metadata().is_ok())
    {
        warnings.extend(own_folder(folder, others).err().map(|it| it.to_string()));
    }
    if config.state_dir.exists() {
        match Documents::check(&config.state_dir, crate::check_providers) {
            Ok(notices) => warnings.extend(notices.iter().map(|it| format!("{it:?}"))),
            Err(err) => warnings.push(err.to_string()),
        }
    }
    warnings
}
