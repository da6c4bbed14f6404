"""The image as `docker build .` makes it: compiled in its own stage, from the context that .dockerignore leaves, by the stand-in
of rust's image. As long as a release build takes: `scripts/packaging.sh --slow`, a part of `make torture`.
"""

import json

import test_image
from container import Image
from tools import ROOT, run


class TheImageFromSource(test_image.TheImage):
    """All that holds of the other holds of this one."""

    @classmethod
    def setUpClass(cls):
        cls.image = Image("source", ROOT)

    def test_its_binary_is_the_release_of_this_tree(self):
        said = json.loads(self.image.run_inside("version", "--json").stdout)
        manifest = run("cargo", "metadata", "--offline", "--no-deps", "--format-version", "1", "--manifest-path", ROOT / "Cargo.toml")
        version = next(it["version"] for it in json.loads(manifest.stdout)["packages"] if it["name"] == "surgegate")
        compiler = run("rustc", "--version").stdout
        self.assertEqual((said["name"], said["version"]), ("surgegate", version))
        self.assertIn(said["rustc"], compiler)
