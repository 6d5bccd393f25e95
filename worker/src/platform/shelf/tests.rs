use super::*;

const TOML: &str = "schema = 1\nname = \"NAME\"\n[[page]]\nname = \"all\"\nurl = \"http://127.0.0.1/\"\n[[capture]]\nname = \"all\"\nsource = \"response\"\npath = \"/\"\nfilter = \"all.jq\"\n";
const FILTER: &str = "include \"shared\"; . | one";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(folder.0.path().join("lib")).unwrap();
        folder.write("lib/shared.jq", "def one: 1;");
        folder.platform("a");
        folder.platform("b");
        folder
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.0.path().join(file), text).unwrap();
    }

    fn platform(&self, name: &str) {
        std::fs::create_dir(self.0.path().join(name)).unwrap();
        self.write(&format!("{name}/platform.toml"), &TOML.replace("NAME", name));
        self.write(&format!("{name}/all.jq"), FILTER);
    }
}

struct Follower {
    shelf: Shelf,
    before: Look,
}

impl Follower {
    fn new(folder: &Folder) -> Self {
        let mut follower = Self { shelf: Shelf::load(folder.0.path()).unwrap(), before: Look::new() };
        assert_eq!(follower.twice(), "");
        follower
    }

    /// One look: the platforms that it brought.
    fn once(&mut self) -> String {
        let (looked, changed) = self.shelf.turn(&self.before);
        self.before = looked;
        changed.iter().map(PlatformName::as_str).collect::<Vec<_>>().join(" ")
    }

    fn twice(&mut self) -> String {
        assert_eq!(self.once(), "", "taken up by a single look");
        self.once()
    }

    fn version(&self, name: &str) -> Arc<Platform> {
        let name = PlatformName::parse(name).unwrap();
        self.shelf.watch(&name).unwrap().borrow().clone()
    }
}

#[test]
fn a_change_is_taken_up_once_two_looks_agree() {
    let folder = Folder::new();
    let mut follower = Follower::new(&folder);
    let mut versions = follower.shelf.watch(&PlatformName::parse("a").unwrap()).unwrap();
    folder.write("a/all.jq", "{");
    assert_eq!(follower.once(), "");
    folder.write("a/all.jq", "2");
    assert_eq!(follower.twice(), "a");
    assert!(versions.has_changed().unwrap());
    versions.mark_unchanged();
    assert_eq!((follower.twice(), versions.has_changed().unwrap()), (String::new(), false));
    assert_eq!(follower.shelf.problems(), Vec::<String>::new());
}

#[test]
fn the_same_size_and_time_do_not_hide_a_change() {
    let folder = Folder::new();
    let mut follower = Follower::new(&folder);
    let path = folder.0.path().join("b/all.jq");
    let time = std::fs::metadata(&path).unwrap().modified().unwrap();
    folder.write("b/all.jq", &FILTER.replace(". |", "1 |"));
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    assert_eq!(follower.twice(), "b");
}

#[test]
fn a_shared_module_concerns_all_and_its_error_names_it() {
    let folder = Folder::new();
    let mut follower = Follower::new(&folder);
    folder.write("lib/shared.jq", "def one: 2;");
    assert_eq!(follower.twice(), "a b");
    folder.write("lib/shared.jq", "def one: 2;\ndef two: nowhere;");
    assert_eq!(follower.twice(), "");
    let problems = follower.shelf.problems();
    assert_eq!(problems.len(), 2);
    for problem in problems {
        assert!(problem.contains("lib/shared.jq:2:10: function nowhere/0 is not defined"), "{problem}");
    }
}

#[test]
fn a_broken_edit_keeps_the_last_good_version_until_it_is_mended() {
    let folder = Folder::new();
    let mut follower = Follower::new(&folder);
    let good = follower.version("a");
    folder.write("a/platform.toml", "schema = 1\nnam = \"a\"\n");
    assert_eq!(follower.twice(), "");
    assert!(Arc::ptr_eq(&good, &follower.version("a")));
    let [problem] = follower.shelf.problems().try_into().unwrap();
    assert!(
        problem.starts_with("platform a: ")
            && problem.contains("a/platform.toml:2: key nam is not known: is it name?"),
        "{problem}"
    );
    assert!(
        problem.contains("; the version loaded at 20") && problem.ends_with(" UTC stays in use"),
        "{problem}"
    );
    assert_eq!(follower.twice(), "");
    folder.write("a/platform.toml", &TOML.replace("NAME", "a"));
    assert_eq!(follower.twice(), "a");
    assert!(!Arc::ptr_eq(&good, &follower.version("a")));
    assert_eq!(follower.shelf.problems(), Vec::<String>::new());
}

#[test]
fn a_folder_that_is_gone_keeps_its_version_and_comes_back() {
    let folder = Folder::new();
    let mut follower = Follower::new(&folder);
    let good = follower.version("b");
    std::fs::remove_dir_all(folder.0.path().join("b")).unwrap();
    assert_eq!(follower.twice(), "");
    assert!(Arc::ptr_eq(&good, &follower.version("b")));
    let [problem] = follower.shelf.problems().try_into().unwrap();
    assert!(problem.contains("has no platform any more; the version loaded at "), "{problem}");
    folder.platform("b");
    assert_eq!(follower.twice(), "b");
    assert_eq!(follower.shelf.problems(), Vec::<String>::new());
    std::fs::rename(folder.0.path(), folder.0.path().with_extension("away")).unwrap();
    assert_eq!(follower.twice(), "");
    let [problem] = follower.shelf.problems().try_into().unwrap();
    assert!(problem.contains("cannot be read"), "{problem}");
    std::fs::rename(folder.0.path().with_extension("away"), folder.0.path()).unwrap();
    assert_eq!(follower.twice(), "");
    assert_eq!(follower.shelf.problems(), Vec::<String>::new());
}

#[test]
fn a_new_folder_is_loaded_and_a_broken_new_one_is_told() {
    let folder = Folder::new();
    let mut follower = Follower::new(&folder);
    folder.platform("c");
    std::fs::create_dir(folder.0.path().join("d d")).unwrap();
    folder.write("d d/platform.toml", "schema = 1\nname = \"d d\"\n");
    assert_eq!(follower.twice(), "c");
    let names: Vec<_> = follower.shelf.names().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let [problem] = follower.shelf.problems().try_into().unwrap();
    assert!(problem.starts_with("platform d d: ") && problem.ends_with("; it is not in use"), "{problem}");
    std::fs::remove_dir_all(folder.0.path().join("d d")).unwrap();
    assert_eq!(follower.twice(), "");
    assert_eq!(follower.shelf.problems(), Vec::<String>::new());
}

#[test]
fn a_folder_with_too_many_files_is_told() {
    let folder = Folder::new();
    let mut follower = Follower::new(&folder);
    for number in 0..=1000 {
        folder.write(&format!("a/{number}.txt"), "");
    }
    assert_eq!(follower.twice(), "");
    let [problem] = follower.shelf.problems().try_into().unwrap();
    assert!(problem.contains("has more than 1000 entries"), "{problem}");
}

#[test]
fn only_filters_that_changed_leave_the_pages_as_they_are() {
    let folder = Folder::new();
    let mut follower = Follower::new(&folder);
    let first = follower.version("a");
    folder.write("a/all.jq", "3");
    follower.twice();
    assert!(first.same_pages(&follower.version("a")));
    for (find, replace) in [
        ("127.0.0.1", "127.0.0.2"),
        ("\"/\"", "\"/x\""),
        ("schema = 1", "schema = 1\nsettings.optional = [\"x\"]"),
    ] {
        folder.write("a/platform.toml", &TOML.replace("NAME", "a").replacen(find, replace, 1));
        assert_eq!(follower.twice(), "a");
        assert!(!first.same_pages(&follower.version("a")), "{replace}");
    }
}

#[test]
fn a_start_is_strict() {
    let empty = tempfile::tempdir().unwrap();
    let error = format!("{:#}", Shelf::load(empty.path()).unwrap_err());
    assert!(error.contains("there is no platform in ") && error.contains("--platforms"), "{error}");
    let error = format!("{:#}", Shelf::load(&empty.path().join("nowhere")).unwrap_err());
    assert!(error.contains("nowhere") && error.contains("--platforms"), "{error}");
    let folder = Folder::new();
    folder.write("b/all.jq", "nowhere");
    let error = format!("{:#}", Shelf::load(folder.0.path()).unwrap_err());
    assert!(error.contains("b/all.jq:1:1: function nowhere/0 is not defined"), "{error}");
    let folder = Folder::new();
    std::os::unix::fs::symlink(folder.0.path().join("a"), folder.0.path().join("c")).unwrap();
    let error = format!("{:#}", Shelf::load(folder.0.path()).unwrap_err());
    assert!(error.contains("is the platform a: a link must have the name of its folder"), "{error}");
}

#[tokio::test]
async fn who_follows_is_told_of_a_change_on_disk_and_stops() {
    let folder = Folder::new();
    let shelf = Shelf::load(folder.0.path()).unwrap();
    let mut versions = shelf.watch(&PlatformName::parse("a").unwrap()).unwrap();
    let (told_in, mut told) = tokio::sync::mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let tell = move |name: &PlatformName| drop(told_in.send(name.clone()));
    let following = tokio::spawn(follow(shelf, tell, stop.clone()));
    folder.write("a/all.jq", "4");
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, versions.changed()).await.unwrap().unwrap();
    assert_eq!(tokio::time::timeout(limit, told.recv()).await.unwrap().unwrap().as_str(), "a");
    stop.cancel();
    tokio::time::timeout(limit, following).await.unwrap().unwrap();
}
