#!/usr/bin/env python3
"""Packs layers, and images that are a `docker save` archive and an OCI layout in one tarball.

  mkimage.py layer DIR OUT.tar [--checkout]
        Packs a directory. It may be the upper directory of an overlay mount, whose whiteouts become `.wh.` files.
        --checkout: DIR is version-controlled, which keeps the executable bit and nothing else: everything is root's,
        and 0755 or 0644 whatever the umask was.
  mkimage.py image OUT.tar --tag NAME:TAG [--tag …] --layer A.tar [--layer …] --config JSON [--arch DEBIAN_ARCH]

Both replace OUT.tar in one step. The same input gives the same bytes.
"""
import argparse
import hashlib
import io
import json
import os
import stat
import tarfile

EPOCH = 1700000000
CREATED = "2023-11-14T22:13:20Z"
# Debian's word for an architecture: OCI's architecture and variant (image-spec, config.md)
ARCHITECTURES = {
    "amd64": ("amd64", None),
    "arm64": ("arm64", "v8"),
    "armhf": ("arm", "v7"),
    "i386": ("386", None),
    "ppc64el": ("ppc64le", None),
    "riscv64": ("riscv64", None),
    "s390x": ("s390x", None),
}


def replace(out, write):
    """Calls `write` with a temporary path and renames that to `out`."""
    tmp = "%s.%d.tmp" % (out, os.getpid())
    try:
        write(tmp)
        os.rename(tmp, out)
    except BaseException:
        if os.path.exists(tmp):
            os.unlink(tmp)
        raise


def pack(directory, out, checkout):
    links = {}

    def marker(tar, arc):
        ti = tarfile.TarInfo(arc)
        ti.mtime = EPOCH
        tar.addfile(ti)

    def add(tar, path, arc):
        st = os.lstat(path)
        if stat.S_ISSOCK(st.st_mode):
            return
        if stat.S_ISCHR(st.st_mode) and st.st_rdev == 0:
            marker(tar, os.path.join(os.path.dirname(arc), ".wh." + os.path.basename(arc)))
            return
        ti = tarfile.TarInfo(arc)
        ti.mtime = EPOCH
        if checkout:
            executable = stat.S_ISDIR(st.st_mode) or st.st_mode & 0o100
            ti.mode = 0o755 if executable else 0o644
        else:
            ti.mode, ti.uid, ti.gid = stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid
        if stat.S_ISDIR(st.st_mode):
            ti.type = tarfile.DIRTYPE
            tar.addfile(ti)
            if xattr(path, "trusted.overlay.opaque") == b"y":
                marker(tar, os.path.join(arc, ".wh..wh..opq"))
            for name in sorted(os.listdir(path)):
                add(tar, os.path.join(path, name), os.path.join(arc, name))
        elif stat.S_ISLNK(st.st_mode):
            ti.type, ti.linkname, ti.mode = tarfile.SYMTYPE, os.readlink(path), 0o777
            tar.addfile(ti)
        elif stat.S_ISREG(st.st_mode):
            inode = (st.st_dev, st.st_ino)
            if inode in links:
                ti.type, ti.linkname = tarfile.LNKTYPE, links[inode]
                tar.addfile(ti)
                return
            if st.st_nlink > 1:
                links[inode] = arc
            capability = xattr(path, "security.capability")
            if capability is not None:
                # Not text: surrogates make tarfile write the record in binary, byte for byte.
                ti.pax_headers = {"SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape")}
            ti.size = st.st_size
            with open(path, "rb") as f:
                tar.addfile(ti, f)
        elif stat.S_ISFIFO(st.st_mode):
            ti.type = tarfile.FIFOTYPE
            tar.addfile(ti)
        else:
            ti.type = tarfile.CHRTYPE if stat.S_ISCHR(st.st_mode) else tarfile.BLKTYPE
            ti.devmajor, ti.devminor = os.major(st.st_rdev), os.minor(st.st_rdev)
            tar.addfile(ti)

    def write(tmp):
        with tarfile.open(tmp, "w", format=tarfile.PAX_FORMAT) as tar:
            for name in sorted(os.listdir(directory)):
                add(tar, os.path.join(directory, name), name)

    replace(out, write)


def xattr(path, name):
    try:
        return os.getxattr(path, name, follow_symlinks=False)
    except OSError:
        return None


def sha256(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        for chunk in iter(lambda: f.read(1 << 20), b""):
            h.update(chunk)
    return h.hexdigest()


def image(out, tags, layers, config, arch):
    layers = {sha256(path): path for path in layers}
    architecture, variant = ARCHITECTURES[arch]
    cfg = {
        "architecture": architecture,
        "os": "linux",
        "created": CREATED,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + d for d in layers]},
        "history": [
            {"created": CREATED, "created_by": "base-images " + os.path.basename(path).split(".layer")[0]}
            for path in layers.values()
        ],
    }
    if variant:
        cfg["variant"] = variant
    cfg = json.dumps(cfg, sort_keys=True).encode()
    cfg_digest = hashlib.sha256(cfg).hexdigest()
    manifest_type = "application/vnd.oci.image.manifest.v1+json"
    manifest = json.dumps({
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": "sha256:" + cfg_digest,
            "size": len(cfg),
        },
        "layers": [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": "sha256:" + d, "size": os.path.getsize(p)}
            for d, p in layers.items()
        ],
    }).encode()
    manifest_digest = hashlib.sha256(manifest).hexdigest()
    index = json.dumps({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {
                "mediaType": manifest_type,
                "digest": "sha256:" + manifest_digest,
                "size": len(manifest),
                "annotations": {
                    "io.containerd.image.name": "docker.io/library/" + tag,
                    "org.opencontainers.image.ref.name": tag.split(":")[1],
                },
            }
            for tag in tags
        ],
    }).encode()
    docker = json.dumps([{
        "Config": "blobs/sha256/" + cfg_digest,
        "RepoTags": tags,
        "Layers": ["blobs/sha256/" + d for d in layers],
    }]).encode()

    def write(tmp):
        with tarfile.open(tmp, "w", format=tarfile.GNU_FORMAT) as tar:
            for d in ("blobs", "blobs/sha256"):
                ti = tarfile.TarInfo(d)
                ti.type, ti.mode, ti.mtime = tarfile.DIRTYPE, 0o755, EPOCH
                tar.addfile(ti)

            def put(name, size, f):
                ti = tarfile.TarInfo(name)
                ti.size, ti.mtime = size, EPOCH
                tar.addfile(ti, f)

            for d, path in layers.items():
                with open(path, "rb") as f:
                    put("blobs/sha256/" + d, os.path.getsize(path), f)
            for name, data in (
                ("blobs/sha256/" + cfg_digest, cfg),
                ("blobs/sha256/" + manifest_digest, manifest),
                ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
                ("index.json", index),
                ("manifest.json", docker),
            ):
                put(name, len(data), io.BytesIO(data))

    replace(out, write)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(dest="command", required=True)
    p = sub.add_parser("layer")
    p.add_argument("directory")
    p.add_argument("out")
    p.add_argument("--checkout", action="store_true")
    p = sub.add_parser("image")
    p.add_argument("out")
    p.add_argument("--tag", action="append", required=True)
    p.add_argument("--layer", action="append", required=True)
    p.add_argument("--config", type=json.loads, required=True)
    p.add_argument("--arch", choices=ARCHITECTURES, default="amd64")
    a = ap.parse_args()
    if a.command == "layer":
        pack(a.directory, a.out, a.checkout)
    else:
        image(a.out, a.tag, a.layer, a.config, a.arch)


if __name__ == "__main__":
    main()
