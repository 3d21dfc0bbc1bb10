"""A pod's volumes as the kubelet creates them: ConfigMaps and Secrets behind a link that changes atomically, and empty
directories."""
import itertools
import os
import pathlib
import shutil
import subprocess


class MissingObjectError(Exception):
    """An object is missing; the text is the kubelet's."""


def command(*words):
    subprocess.run([str(word) for word in words], check=True, capture_output=True, timeout=30)


class Volumes:
    """The volumes of a pod. `objects` are the cluster's: {(kind, name): {key: bytes}}."""

    def __init__(self, directory, objects, group=None):
        self.directory, self.objects, self.group = pathlib.Path(directory), objects, group
        self.numbers, self.mounted = itertools.count(1), []

    def path(self, volume):
        return self.directory / volume["name"]

    def make(self, volume):
        """Creates the volume, or names the missing object."""
        place = self.path(volume)
        if "emptyDir" in volume:
            if not place.exists():
                place.mkdir(parents=True)
                if volume["emptyDir"].get("medium") == "Memory":
                    size = str(volume["emptyDir"].get("sizeLimit", "64Mi")).replace("i", "")
                    command("mount", "-t", "tmpfs", "-o", f"mode=0777,size={size}", "memory", place)
                    self.mounted.append(place)
                place.chmod(0o777)
        elif "configMap" in volume or "secret" in volume:
            self.fill(volume)
        else:
            raise MissingObjectError(f'MountVolume.SetUp failed for volume "{volume["name"]}" : this kubelet has no such kind')

    def wanted(self, volume):
        """The files of a ConfigMap or Secret, and their mode."""
        kind, source = next((kind, volume[kind]) for kind in ("configMap", "secret") if kind in volume)
        name = source["name" if kind == "configMap" else "secretName"]
        there = self.objects.get((kind, name))
        failed = f'MountVolume.SetUp failed for volume "{volume["name"]}" : '
        if there is None:
            if source.get("optional"):
                return {}, 0
            raise MissingObjectError(f'{failed}{kind.lower()} "{name}" not found')
        files = there
        if "items" in source:
            lacking = [item["key"] for item in source["items"] if item["key"] not in there]
            if lacking and not source.get("optional"):
                raise MissingObjectError(f"{failed}references non-existent {kind.lower()} key: {lacking[0]}")
            files = {item["path"]: there[item["key"]] for item in source["items"] if item["key"] in there}
        return files, source.get("defaultMode", 0o644)

    def fill(self, volume):
        """Like the kubelet's atomic writer: writes new files, then changes the link."""
        files, mode = self.wanted(volume)
        place = self.path(volume)
        place.mkdir(parents=True, exist_ok=True)
        stamp = f"..{next(self.numbers):06}"
        (place / stamp).mkdir()
        for name, content in files.items():
            file = place / stamp / name
            file.write_bytes(content)
            if self.group is not None:
                os.chown(file, 0, self.group)
                mode |= 0o440
            file.chmod(mode)
        old = os.readlink(place / "..data") if (place / "..data").is_symlink() else None
        (place / "..data_tmp").symlink_to(stamp)
        (place / "..data_tmp").rename(place / "..data")
        for name in files:
            if not (place / name).is_symlink():
                (place / name).symlink_to(f"..data/{name}")
        for one in place.iterdir():
            if not one.name.startswith("..") and one.name not in files:
                one.unlink()
        if old:
            shutil.rmtree(place / old)

    def remove(self):
        for place in self.mounted:
            # A probe that is being ended may still use it.
            command("umount", "--lazy", place)
        shutil.rmtree(self.directory, ignore_errors=True)
