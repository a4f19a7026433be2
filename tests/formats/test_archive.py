"""Archives: deterministic, and refusing all that tar could otherwise carry."""

import io
import os
import tarfile

import pytest

from agent.formats import archive
from agent.formats.archive import ArchiveError


def packed(path, **bounds):
    sink = io.BytesIO()
    archive.pack(path, sink, **bounds)
    return sink.getvalue()


@pytest.fixture
def tree(tmp_path):
    """A folder with what a function may have."""
    root = tmp_path / "function"
    (root / "lib" / "deep").mkdir(parents=True)
    (root / "main.py").write_text("print('main')\n")
    (root / "main.py").chmod(0o700)
    (root / "lib" / "deep" / "data.bin").write_bytes(os.urandom(3000))
    (root / "lib" / "empty").write_bytes(b"")
    (root / "lib.txt").write_text("sorts before lib/ as bytes, behind it as a path")
    (root / "größe.txt").write_text("ü")
    return root


def tar_of(*members):
    """A tar as others write it: (name, type, content or link target)."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.mtime = kind, 0o644, 0
            if kind == tarfile.DIRTYPE:
                info.mode = 0o755
            data = content if isinstance(content, bytes) else b""
            info.linkname = content if isinstance(content, str) else ""
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def strict(data):
    """A foreign tar with its harmless differences undone: records of 20 blocks, no device numbers,
    folder names that end in '/'."""
    blocks = [bytearray(data[i : i + 512]) for i in range(0, len(data), 512)]
    for block in blocks:
        if block[257:262] == b"ustar":
            block[329:345] = b"0000000\0" * 2
            if block[156:157] == b"5":
                block[:100] = block[:100].rstrip(b"\0/").ljust(100, b"\0")
            block[148:156] = b" " * 8
            block[148:156] = b"%06o\0 " % sum(block)
    while len(blocks) > 2 and not any(blocks[-3]):
        blocks.pop()
    return b"".join(blocks)


def refused(data, folder, **bounds):
    with pytest.raises(ArchiveError) as caught:
        archive.unpack(io.BytesIO(data), folder / "out", **bounds)
    return str(caught.value)


def test_pack_and_unpack__tree__comes_back_with_executable_bits(tree, tmp_path):
    archive.unpack(io.BytesIO(packed(tree)), tmp_path / "out")
    assert packed(tmp_path / "out") == packed(tree)
    assert (tmp_path / "out" / "main.py").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out" / "lib.txt").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "out" / "größe.txt").read_text() == "ü"


def test_pack__other_times_owners_and_order__same_bytes(tree, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for entry in sorted(tree.rglob("*"), reverse=True):
        target = other / entry.relative_to(tree)
        if entry.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(entry.read_bytes())
            target.chmod(entry.stat().st_mode)
            os.utime(target, (1, 1))
            if os.geteuid() == 0:
                os.chown(target, 1234, 1234)
    assert packed(other) == packed(tree)


def test_pack__archive__is_one_that_tar_reads(tree):
    with tarfile.open(fileobj=io.BytesIO(packed(tree))) as tar:
        assert (
            tar.extractfile("lib/deep/data.bin").read()
            == (tree / "lib" / "deep" / "data.bin").read_bytes()
        )


def test_pack__single_file__is_an_archive_of_it(tmp_path):
    (tmp_path / "list.txt").write_text("a\n")
    entries = archive.unpack(io.BytesIO(packed(tmp_path / "list.txt")), tmp_path / "out")
    assert [entry.path for entry in entries] == ["list.txt"]


def test_packed__stream__gives_the_same_bytes(tree):
    assert archive.packed(tree).read() == packed(tree)


def test_unpack__strict_form_of_a_plain_foreign_tar__is_taken(tmp_path):
    # shows that `strict` is faithful, so that the refusals below are for the stated reason
    data = strict(tar_of(("a", tarfile.DIRTYPE, b""), ("a/b", tarfile.REGTYPE, b"x")))
    archive.unpack(io.BytesIO(data), tmp_path / "out")
    assert (tmp_path / "out" / "a" / "b").read_bytes() == b"x"


@pytest.mark.parametrize(
    "name", ["../escape", "/absolute", "a/../../b", "a//b", "./a", "a/.", "a\\b", "a\nb", ".."]
)
def test_unpack__path_that_leaves_or_confuses__refused(name, tmp_path):
    data = strict(tar_of((name, tarfile.REGTYPE, b"x")))
    refused(data, tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (tarfile.SYMTYPE, "/etc"),
        (tarfile.LNKTYPE, "/etc/passwd"),
        (tarfile.CHRTYPE, ""),
        (tarfile.BLKTYPE, ""),
        (tarfile.FIFOTYPE, ""),
        (tarfile.CONTTYPE, b""),
        (tarfile.GNUTYPE_LONGNAME, b"long"),
        (tarfile.XHDTYPE, b"12 path=../x\n"),
        (tarfile.GNUTYPE_SPARSE, b""),
    ],
)
def test_unpack__link_device_or_extension__refused(kind, target, tmp_path):
    message = refused(strict(tar_of(("entry", kind, target))), tmp_path)
    assert "plain files" in message
    assert not list((tmp_path / "out").iterdir())


def test_unpack__setuid_foreign_owner_or_time__refused(tree, tmp_path):
    data = packed(tree)
    for offset, value in ((100, b"0004755\0"), (108, b"0000001\0"), (136, b"00000000001\0")):
        head = bytearray(data[:512])
        head[offset : offset + len(value)] = value
        head[148:156] = b" " * 8
        head[148:156] = b"%06o\0 " % sum(head)
        with pytest.raises(ArchiveError):
            archive.unpack(io.BytesIO(bytes(head) + data[512:]), tmp_path / f"out{offset}")


def test_unpack__bombs__refused_before_they_fill_the_disk(tree, tmp_path):
    data = packed(tree)
    size = sum(f.stat().st_size for f in tree.rglob("*") if f.is_file())
    for number, bounds in enumerate(({"max_bytes": size - 1}, {"max_files": 6})):
        with pytest.raises(ArchiveError, match="more than"):
            archive.unpack(io.BytesIO(data), tmp_path / f"out{number}", **bounds)
    archive.unpack(io.BytesIO(data), tmp_path / "fits", max_bytes=size, max_files=7)
    huge = archive._header(archive.Entry("huge", False, False, (8 << 30) - 1))
    message = refused(huge, tmp_path, max_bytes=1 << 20)
    assert "more than" in message
    assert not (tmp_path / "out" / "huge").exists()


def test_unpack__duplicate_unsorted_or_orphaned_entry__refused(tmp_path):
    cases = [
        (("a", tarfile.REGTYPE, b"1"), ("a", tarfile.REGTYPE, b"2")),
        (("b", tarfile.REGTYPE, b"1"), ("a", tarfile.REGTYPE, b"2")),
        (("a/b", tarfile.REGTYPE, b"1"),),
        (("a", tarfile.REGTYPE, b"1"), ("a/b", tarfile.REGTYPE, b"2")),
    ]
    for number, members in enumerate(cases):
        with pytest.raises(ArchiveError, match="sorted"):
            archive.unpack(io.BytesIO(strict(tar_of(*members))), tmp_path / f"out{number}")


def test_unpack__truncated_anywhere_or_followed_by_bytes__refused(tree, tmp_path):
    data = packed(tree)
    for number, cut in enumerate([0, 1, 511, 512, 1024, len(data) // 2, len(data) - 1]):
        with pytest.raises(ArchiveError):
            archive.unpack(io.BytesIO(data[:cut]), tmp_path / f"cut{number}")
    with pytest.raises(ArchiveError, match="after its end"):
        archive.unpack(io.BytesIO(data + b"x"), tmp_path / "more")


def test_unpack__content_hidden_in_the_padding__refused(tmp_path):
    data = bytearray(strict(tar_of(("a", tarfile.REGTYPE, b"x"))))
    data[512 + 100] = 1
    assert "padding" in refused(bytes(data), tmp_path)


def test_unpack__into_existing_folder__refused(tree, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError):
        archive.unpack(io.BytesIO(packed(tree)), tmp_path / "out")


@pytest.mark.parametrize("kind", ["symlink", "dangling", "fifo", "folder link", "itself"])
def test_pack__link_or_special_file__refused(tree, kind, tmp_path):
    path = tree / "odd"
    target = tree
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "itself":
        target = tmp_path / "link"
        target.symlink_to(tree)
    else:
        path.symlink_to({"symlink": "main.py", "dangling": "none", "folder link": "/etc"}[kind])
    with pytest.raises(ArchiveError):
        packed(target)


def test_pack__file_replaced_by_a_link_after_the_look__refused(tree, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes((tree / "main.py").read_bytes())  # of the same size: only the link tells
    entry = archive._entry(tree / "main.py", "main.py")
    (tree / "main.py").unlink()
    (tree / "main.py").symlink_to(secret)
    with pytest.raises(OSError, match="symbolic links"):
        list(archive._content(tree / "main.py", entry))


def test_pack__file_that_changes_size_meanwhile__refused(tree):
    for change in (b"", os.urandom(9000)):
        entry = archive._entry(tree / "lib" / "deep" / "data.bin", "data.bin")
        (tree / "lib" / "deep" / "data.bin").write_bytes(change)
        with pytest.raises(ArchiveError, match="pack again"):
            list(archive._content(tree / "lib" / "deep" / "data.bin", entry))
        (tree / "lib" / "deep" / "data.bin").write_bytes(os.urandom(3000))


def test_pack__above_the_bounds__refused(tree):
    with pytest.raises(ArchiveError, match="more than"):
        packed(tree, max_files=3)
    with pytest.raises(ArchiveError, match="more than"):
        packed(tree, max_bytes=100)
    deep = tree
    for _ in range(40):
        deep = deep / "d"
        deep.mkdir()
    with pytest.raises(ArchiveError):
        packed(tree)


def test_pack__name_that_is_not_utf8__refused(tree):
    with open(os.fsencode(tree) + b"/\xff", "wb"):
        pass
    with pytest.raises(ArchiveError, match="UTF-8"):
        packed(tree)


def test_pack__long_paths__kept_up_to_the_formats_bound(tmp_path):
    folder = tmp_path / "tree" / ("d" * 120)
    folder.mkdir(parents=True)
    (folder / ("f" * 100)).write_text("x")
    with pytest.raises(ArchiveError, match="longer"):
        packed(tmp_path / "tree")  # a folder name of 120 fits neither field alone
    folder.rename(tmp_path / "tree" / ("d" * 100))
    archive.unpack(io.BytesIO(packed(tmp_path / "tree")), tmp_path / "out")
    assert (tmp_path / "out" / ("d" * 100) / ("f" * 100)).read_text() == "x"
