//! The SQLite file of the state folder, which need not be there yet.
//!
//! It is made by the first command that adds something to it. A server that runs by then finds it
//! with the next question; until then it is a store without users.

use std::fs::{self, DirBuilder, OpenOptions as FileOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use sterna_actors::credential_store::{
    CredentialStore, StoreError, StoredRealm, StoredUser, UserLookup,
};
use sterna_actors::policy::TokenKey;
use sterna_proto::credentials::PasswordAlgorithm;
use sterna_stores::{OpenOptions, StoreUrl, admin};
use tokio::sync::OnceCell;

use super::{STORES, SourceError, check_file, open_at};

/// Where it is.
pub(crate) fn file_in(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

/// Opens it, or what will become of it.
pub(super) async fn open(
    folder: &Path,
    options: OpenOptions,
) -> Result<Arc<dyn CredentialStore>, SourceError> {
    let url = StoreUrl::embedded(&file_in(folder));
    let store = Embedded { url, options, opened: OnceCell::new() };
    if store.is_there() {
        let opened = open_at(&store.url, store.options.clone()).await?;
        // Nobody else has this store yet.
        let _ = store.opened.set(opened);
    }
    Ok(Arc::new(store))
}

/// Makes the file, for its owner alone. Root makes it for the owner of the folder, who runs the
/// server.
pub(crate) fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    make_file(&file_in(folder))
}

/// Makes an empty file that its owner alone may read, where there is none: the owner of its folder,
/// where root makes it.
pub(crate) fn make_file(path: &Path) -> io::Result<()> {
    let file = match FileOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(cause) if cause.kind() == ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    };
    let folder = path.parent().map(fs::metadata).transpose()?;
    match folder {
        Some(folder) if folder.uid() != file.metadata()?.uid() => {
            // By its descriptor: whoever owns the folder may have put another file there by now.
            fchown(&file, Some(folder.uid()), Some(folder.gid()))
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether the file is there and has neither a user nor a secret. What cannot be read is told
/// elsewhere.
pub(super) async fn is_vacant(folder: &Path) -> bool {
    let path = file_in(folder);
    let is_small = fs::metadata(&path).is_ok_and(|file| file.len() <= VACANT_MAX);
    if !is_small {
        return false;
    }
    let Ok(admin) = admin::look(&StoreUrl::embedded(&path)).await else { return false };
    admin.counts().await.is_ok_and(|counts| counts.users == 0 && counts.secrets == 0)
}

struct Embedded {
    url: StoreUrl,
    options: OpenOptions,
    opened: OnceCell<Arc<dyn CredentialStore>>,
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

impl Embedded {
    fn is_there(&self) -> bool {
        self.url.sqlite_file().is_some_and(Path::exists)
    }

    /// The store behind it, as soon as there is one.
    async fn store(&self) -> Result<Option<&Arc<dyn CredentialStore>>, StoreError> {
        if !self.opened.initialized() && !self.is_there() {
            return Ok(None);
        }
        let open = || async {
            check_file(STORES, &self.url).map_err(|fault| StoreError::Lost(fault.to_string()))?;
            Ok::<_, StoreError>(sterna_stores::open(&self.url, self.options.clone()).await?)
        };
        self.opened.get_or_try_init(open).await.map(Some)
    }
}

impl CredentialStore for Embedded {
    fn label(&self) -> &str {
        self.url.label()
    }

    fn password_algorithms(&self) -> &[PasswordAlgorithm] {
        match self.opened.get() {
            Some(store) => store.password_algorithms(),
            None => &[PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5],
        }
    }

    fn finds_hashed(&self) -> bool {
        self.opened.get().is_none_or(|store| store.finds_hashed())
    }

    fn can_revalidate(&self) -> bool {
        true
    }

    fn user(&self, wanted: UserLookup) -> Answer<'_, Option<StoredUser>> {
        Box::pin(async move {
            match self.store().await? {
                Some(store) => store.user(wanted).await,
                None => Ok(None),
            }
        })
    }

    fn users(&self, realm: Arc<str>, names: Vec<Arc<str>>) -> Answer<'_, Vec<StoredUser>> {
        Box::pin(async move {
            match self.store().await? {
                Some(store) => store.users(realm, names).await,
                None => Ok(Vec::new()),
            }
        })
    }

    fn rest_secrets(&self, realm: Arc<str>) -> Answer<'_, Vec<Vec<u8>>> {
        Box::pin(async move {
            match self.store().await? {
                Some(store) => store.rest_secrets(realm).await,
                None => Ok(Vec::new()),
            }
        })
    }

    fn token_key(&self, kid: String) -> Answer<'_, Option<TokenKey>> {
        Box::pin(async move {
            match self.store().await? {
                Some(store) => store.token_key(kid).await,
                None => Ok(None),
            }
        })
    }

    fn realms(&self) -> Answer<'_, Vec<StoredRealm>> {
        Box::pin(async move {
            match self.store().await? {
                Some(store) => store.realms().await,
                None => Ok(Vec::new()),
            }
        })
    }
}

/// The file's name in the state folder.
const FILE: &str = "users.db";

/// A larger file is that of many users, and is not read through to find one.
const VACANT_MAX: u64 = 1_048_576;
