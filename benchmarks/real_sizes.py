"""Inputs of the stages in their real shapes, filled cheaply: what benchmarks/memory.py gives to the scripts.

Each file is written once, with the lineage of its recipe, and linked to where a run looks for it. Numbers are random,
or the same block of random numbers again and again; models are of the public architectures, with random weights.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import h5py
import nibabel as nib
import numpy as np
import open_clip
import pandas as pd
import torch
from nibabel.cifti2 import BrainModelAxis, SeriesAxis
from PIL import Image
from torchvision.models import resnet50

from baselines.ozcelik import recipes as ozcelik
from baselines.ozcelik.generator import CHANNELS_256, Generator
from baselines.semantic_brain_decoding import recipes as concepts
from baselines.semantic_brain_decoding.classes import imagenet_classes
from baselines.takagi import recipes as takagi
from benchmarks.metrics import write_random_networks
from benchmarks.prepare import write_dataset
from data import cc2017, god, nsd, nsd_rois
from data.cortex import N_SURFACE, read_atlas
from data.recipes import prepared
from evaluation.catalogue import TABULATED
from evaluation.pictures.catalogue import METRICS, SYSTEMS
from evaluation.pictures.systems import wanted
from evaluation.scores import scoring_settings, write_tables
from feature_decoding import recipes
from feature_decoding.decoders import UNITS_PER_PART
from feature_extraction.recipes import features
from minddiffuser.config import Config
from minddiffuser.config.method import layer_name
from minddiffuser.pretrained.clip import random_clip
from minddiffuser.pretrained.pooled import resnet50_weights
from minddiffuser.pretrained.stable_diffusion import clip_tokenizer, random_stable_diffusion
from minddiffuser.recipe import Recipe
from minddiffuser.store import Artifact
from miniature.bdata import write_bdata
from reconstruction.folder import ReconstructionFolder
from reconstruction.recipes import control, stage1

SUBJECT, GOD_SUBJECT, FILM_SUBJECT = "subj01", "Subject1", "Subject01"
N_TEST, N_SESSIONS = 982, 37
SHAPE, _KNOWN = nsd.VOLUMES[SUBJECT], nsd_rois.KNOWN_VOXELS[SUBJECT]
N_VOXELS, N_V1 = _KNOWN["all"], _KNOWN["V1"]
N_CLIPS, N_SUBCORTEX = 240, 91_282 - 59_412  # of a film of CC2017; columns of its recordings beside the cortex
STREAM_VOXELS = {"early": 5917, "ventral": 7604}  # of subject 1, as Takagi & Nishimoto count them
C, Z, LAYER, EMBEDDING = (15, 768), (4, 64, 64), (50, 768), 512
N_UNITS = {"semantic": 14 * 768, "detail": 4 * 64 * 64}  # outputs of decoders; of a layer a quarter of 38,400
N_KEPT = 9600
N_COCO, N_ANNOTATIONS, BYTES_OF_INSTANCES = 118_287, 860_001, 448e6  # of COCO's training images of 2017
WIDTH_OF_GENERATOR = 96  # width of icgan_biggan_imagenet_res256
N_CLASSES, BANK_PER_CLASS, N_POOLED = 1000, 500, 2048
_ROWS = 512  # of a block that is repeated
_LINKS = 30_000  # to one file: file systems have a limit


class Inputs:
    """Writes what scripts read, for one configuration.

    Parameters
    ----------
    folder : Path
        Where all of them are; `execution` of the configuration names folders in it.
    config : Config
    n_training : int
    """

    def __init__(self, folder: Path, config: Config, n_training: int) -> None:
        self.folder, self.config = folder, config
        self.n_images = N_TEST + n_training
        self.rng = np.random.default_rng(0)
        self.ids = self.rng.permutation(73_000)[: self.n_images]

    def normal(self, *shape: int) -> np.ndarray:
        """Draw float32 numbers."""
        return self.rng.standard_normal(shape, np.float32)

    def put(self, recipe: Recipe, fill: Callable[[h5py.File], object], variant: str = "") -> None:
        """Put the file of a recipe in its place, made by `fill` unless another run had the same."""
        stored = self.folder / "made" / f"{recipe.fingerprint}_{self.n_images}{variant}.h5"
        if not stored.is_file():
            stored.parent.mkdir(parents=True, exist_ok=True)
            with h5py.File(stored, "w", locking=False) as file:
                fill(file)
                lineage = json.dumps(recipe.lineage)
                file.attrs.update(subject=recipe.subject, fingerprint=recipe.fingerprint, lineage=lineage)
        recipe.path.parent.mkdir(parents=True, exist_ok=True)
        os.link(stored, recipe.path)

    # What is of NSD.

    def nsd(self) -> None:
        """Write NSD's files, with the betas of one session as those of all, and COCO's annotations."""
        root = self.config.nsd
        if root.is_dir():
            return
        write_dataset(root, N_SESSIONS)
        labels = np.zeros(np.prod(SHAPE), np.int16)
        begin = 200_000
        for name, n in STREAM_VOXELS.items():
            labels[begin : begin + n] = nsd_rois.LABELS["streams"].index(name) + 1
            begin += n
        volume = nib.Nifti1Image(labels.reshape(SHAPE), np.eye(4))
        nib.save(volume, root / "nsddata/ppdata" / SUBJECT / "func1pt8mm/roi/streams.nii.gz")
        (root / nsd.CAPTIONS[0]).parent.mkdir()
        link, numbers = "http://images.cocodataset.org/train2017/000000391895.jpg", range(1, N_COCO + 1)
        images = [
            {"license": 3, "file_name": f"{i:012d}.jpg", "coco_url": link, "height": 360, "width": 640, "id": i,
             "date_captured": "2013-11-14 11:18:45", "flickr_url": link}
            for i in numbers
        ]  # fmt: skip
        text = "A man with a red helmet on a small moped on a dirt road"
        captions = [{"image_id": i, "id": 5 * i + k, "caption": f"{text} {k}."} for i in numbers for k in range(5)]
        (root / nsd.CAPTIONS[0]).write_text(json.dumps({"images": images, "annotations": captions}))
        (root / nsd.CAPTIONS[1]).write_text(json.dumps({"images": [], "annotations": []}))
        del captions
        categories = [{"supercategory": "thing", "id": k, "name": f"category {k}"} for k in range(1, 81)]
        n_numbers = int(BYTES_OF_INSTANCES / N_ANNOTATIONS - 200) // 8
        outline = json.dumps([[239.97] * n_numbers])
        with (root / nsd.INSTANCES[0]).open("w") as file:
            file.write(json.dumps({"images": images, "categories": categories})[:-1] + ', "annotations": [')
            for i in range(N_ANNOTATIONS):
                file.write(
                    f'{", " if i else ""}{{"segmentation": {outline}, "area": 2765.1486500000005, "iscrowd": 0, '
                    f'"image_id": {i % N_COCO + 1}, "bbox": [199.84, 200.46, 77.71, 70.88], '
                    f'"category_id": {i % 80 + 1}, "id": {i}}}'
                )
            file.write("]}")

    # What is of CC2017.

    def cc2017(self) -> None:
        """Write films of black, and three recordings of noise, which are linked to as all runs in turn."""
        root, stored = self.config.cc2017, self.folder / "cc2017_files"
        names = {f"seg{k}": 2 for k in range(1, 19)} | {f"test{k}": 10 for k in range(1, 6)}
        if not stored.is_dir():
            stored.mkdir(parents=True)
            writer = cv2.VideoWriter(str(stored / "film.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 30, (16, 16))
            for _ in range(N_CLIPS * 60):
                writer.write(np.zeros((16, 16, 3), np.uint8))
            writer.release()
            atlas, mask = read_atlas(), np.zeros((91, 109, 91), bool)
            mask.reshape(-1)[:N_SUBCORTEX] = True
            left, right = (
                BrainModelAxis.from_surface(atlas.vertex[atlas.hemisphere == side], N_SURFACE, name)
                for side, name in (("L", "CIFTI_STRUCTURE_CORTEX_LEFT"), ("R", "CIFTI_STRUCTURE_CORTEX_RIGHT"))
            )
            models = left + right + BrainModelAxis.from_mask(mask, "CEREBELLUM_LEFT", np.eye(4))
            for k in range(3):
                volumes = 10_000 + 100 * self.normal(N_CLIPS + 6, len(models))
                for n in (5, 6):
                    series = SeriesAxis(0, cc2017.SECONDS, N_CLIPS + n)
                    nib.save(
                        nib.Cifti2Image(volumes[-len(series) :], (series, models)), stored / f"{n}_{k}.dtseries.nii"
                    )
        for place, (name, n_repetitions) in enumerate(names.items()):
            film = root / "Stimuli" / "video_fmri_dataset" / "stimuli" / f"{name}.mp4"
            film.parent.mkdir(parents=True, exist_ok=True)
            os.link(stored / "film.mp4", film)
            for number in range(1, n_repetitions + 1):
                n = 5 if name.startswith("seg") or name == "test1" else 6
                path = cc2017.recording_path(root, FILM_SUBJECT, name, number)
                path.parent.mkdir(parents=True, exist_ok=True)
                os.link(stored / f"{n}_{(place + number) % 3}.dtseries.nii", path)

    def prepared(self) -> None:
        """Put `prepared.h5`."""
        self.put(prepared(self.config, SUBJECT), self._prepared)

    def _prepared(self, file: h5py.File) -> None:
        rois, n = self.config.experiment.data.rois, self.n_images
        sizes = [len(part) for part in np.array_split(np.arange(N_VOXELS - N_V1), len(rois) - 1)]
        sizes.insert(rois.index("V1"), N_V1)
        arrays = {
            "betas": self.normal(n, N_VOXELS),
            "betas_halves": self.normal(N_TEST, 2, N_VOXELS),
            "stimulus_id": self.ids,
            "coco_id": self.ids + 1,
            "is_test": np.arange(n) < N_TEST,
            "n_repetitions": np.full(n, 3),
            "voxel_index": np.arange(200_000, 200_000 + N_VOXELS),
            "roi": np.repeat(rois, sizes).astype("S"),
            "noise_ceiling": self.rng.uniform(0, 60, N_VOXELS),
            "volume_shape": np.array(SHAPE),
            "affine": np.eye(4),
        }
        _fill(file, arrays)

    def features(self, family: str, n_tokens: str = str(LAYER[0])) -> None:
        """Put targets of all images; of a CLIP layer so many tokens."""
        self.put(
            features(self.config, SUBJECT, family),
            lambda file: self._targets(file, family, int(n_tokens)),
            "" if int(n_tokens) == LAYER[0] else f"_{n_tokens}",
        )

    def _targets(self, file: h5py.File, family: str, n_tokens: int) -> None:
        file["stimulus_id"] = self.ids
        if family == "semantic":
            c = self.normal(self.n_images, *C)
            c[:, 0] = c[0, 0]
            file["c"] = c
        elif family == "detail":
            file["z"] = self.normal(self.n_images, *Z)
        else:
            first, *others = (layer_name(number) for number in self.config.experiment.structural.layers)
            self._tiled(file, first, (self.n_images, n_tokens, LAYER[1]))
            for name in others:
                file[name] = file[first]  # the same numbers, under another name
            file["embedding"] = self.normal(self.n_images, EMBEDDING)

    def _tiled(self, file: h5py.File, name: str, shape: tuple[int, ...]) -> None:
        block, dataset = self.normal(_ROWS, *shape[1:]), file.create_dataset(name, shape, np.float32)
        for start in range(0, len(dataset), _ROWS):
            stop = min(start + _ROWS, len(dataset))
            dataset[start:stop] = block[: stop - start]

    def units(self) -> None:
        """Put the units that are decoded."""
        names = [layer_name(number) for number in self.config.experiment.structural.layers]
        chosen = np.arange(0, np.prod(LAYER), np.prod(LAYER) // N_KEPT)
        self.put(
            recipes.units(self.config, SUBJECT), lambda file: _fill(file, {f"{name}_units": chosen for name in names})
        )

    def decoders(self, family: str) -> None:
        """Put fitted decoders."""
        for name in recipes.names_of(self.config, family):
            shape = N_UNITS.get(family, N_KEPT), recipes.n_voxels(self.config)[name][1]
            self.put(recipes.decoder(self.config, SUBJECT, name), lambda file, s=shape: _fill(file, self.weights(*s)))

    def weights(self, n_units: int, n_voxels: int) -> dict[str, np.ndarray]:
        """Make the arrays of a decoder."""
        chosen = np.sort(self.rng.permutation(N_VOXELS)[:n_voxels]).astype(np.int32)
        return {
            "voxels": np.tile(chosen, (n_units, 1)),
            "weights": self.normal(n_units, n_voxels),
            "bias": np.zeros(n_units),
            "mean": np.zeros(n_units),
            "std": np.ones(n_units),
        }

    def parts(self, recipe: Recipe, n_units: int, n_voxels: int) -> None:
        """Put all parts of a decoder but the first."""
        for number, rows in Artifact(recipe).parts_to_do(n_units, UNITS_PER_PART)[1:]:
            Artifact(recipe).write_part(number, self.weights(rows.stop - rows.start, n_voxels))

    def parts_of_family(self, family: str) -> None:
        """Put all parts but the first of each decoder of a family."""
        for name in recipes.names_of(self.config, family):
            n_voxels = recipes.n_voxels(self.config)[name][1]
            self.parts(recipes.decoder(self.config, SUBJECT, name), N_UNITS.get(family, N_KEPT), n_voxels)

    def permuted_parts(self) -> None:
        """Put all parts but the first of the decoders that are fitted to permuted images."""
        for family, n_units in N_UNITS.items():
            n_voxels = recipes.n_voxels(self.config)[family][1]
            self.parts(recipes.permuted_decoder(self.config, SUBJECT, family), n_units, n_voxels)

    def decoded(self, family: str) -> None:
        """Put what is decoded of the test images."""
        self.put(recipes.decoded(self.config, SUBJECT, family), lambda file: self._decoded(file, family))

    def _decoded(self, file: h5py.File, family: str) -> None:
        file["stimulus_id"] = self.ids[:N_TEST]
        if family in N_UNITS:
            key, shape = {"semantic": ("c", C), "detail": ("z", Z)}[family]
            file[key] = self.normal(N_TEST, *shape)
            return
        for number in self.config.experiment.structural.layers:
            file[layer_name(number)] = self.normal(N_TEST, N_KEPT)
            file[f"{layer_name(number)}_units"] = np.arange(0, np.prod(LAYER), np.prod(LAYER) // N_KEPT)

    def permuted(self) -> None:
        """Put what decoders of permuted images decode."""
        for family in N_UNITS:
            recipe = recipes.permuted(self.config, SUBJECT, family)
            self.put(recipe, lambda file, family=family: self._decoded(file, family))

    def controls_of_decoders(self) -> None:
        """Put what 28_controls.py makes of the halves of the trials, and of images that are held out."""
        for family, n_units in N_UNITS.items():
            arrays = {recipes.FAMILIES[family]: self.normal(N_TEST, 2, n_units), "stimulus_id": self.ids[:N_TEST]}
            arrays["n_repetitions"] = np.full(N_TEST, 3)
            self.put(recipes.halves(self.config, SUBJECT, family), lambda file, arrays=arrays: _fill(file, arrays))

    def pictures(self, recipe: Recipe, ids: np.ndarray, n_done: int | None = None) -> None:
        """Put a folder of pictures of 512 pixels, all the same, of the first `n_done` of these images."""
        done, picture = ids[:n_done], self._picture()
        output = ReconstructionFolder(recipe, len(ids))
        record = {"seed": 42, "loss": 1.0, "iteration": 290, "seconds": 1.0}
        (recipe.path / "records").mkdir()
        for i in done.tolist():
            os.link(picture, recipe.path / f"{i:05d}.png")
            (recipe.path / "records" / f"{i:05d}.json").write_text(json.dumps({"stimulus_id": i, **record}))
        output.write_index()

    def _picture(self) -> Path:
        """Make a picture of 512 pixels, not too easy to compress."""
        path = self.folder / "picture.png"
        if not path.is_file():
            small = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
            Image.fromarray(small).resize((512, 512), Image.Resampling.BICUBIC).save(path)
        return path

    def trajectories(self, path: Path, ids: np.ndarray) -> None:
        """Put the way of stage 2: losses of 300 iterations, and the pictures that a page shows at most."""
        curve = pd.DataFrame({"loss": np.linspace(2, 1, 300), "learning_rate": 0.01}).to_csv(index_label="iteration")
        for i in ids.tolist():
            (path / "trajectory" / f"{i:05d}").mkdir(parents=True)
            (path / "trajectory" / f"{i:05d}.csv").write_text(curve)
            for k in range(0, 300, 25):
                os.link(self._picture(), path / "trajectory" / f"{i:05d}" / f"{k:04d}.png")

    def tables(self) -> None:
        """Put the tables of scores of all systems."""
        output, systems = self.config.folder() / "evaluation", list(SYSTEMS)
        index = pd.MultiIndex.from_product(
            [systems, METRICS, self.ids[:N_TEST]], names=["system", "metric", "stimulus_id"]
        )
        scores = pd.DataFrame({"value": self.rng.uniform(size=len(index))}, index=index).reset_index()
        scores.insert(0, "subject", SUBJECT)
        summary = scores.groupby(["subject", "system", "metric"], sort=False)["value"].agg(["mean", "size"])
        summary = summary.reset_index().rename(columns={"size": "n"}).assign(ci_low=0.4, ci_high=0.6, incomplete="")
        pairs = [("minddiffuser/stage2", name) for name in systems[2:]]
        numbers = {"difference": 0.1, "ci_low": 0.0, "ci_high": 0.2, "p": 0.01, "p_holm": 0.1, "n": N_TEST}
        paired = [(SUBJECT, *pair, metric) for pair in pairs for metric in METRICS]
        columns = ["subject", "system", "baseline", "metric"]
        tables = {
            "scores": scores,
            "summary": summary,
            "paired": pd.DataFrame(paired, columns=columns).assign(**numbers),
        }
        record = {
            "settings": scoring_settings(self.config),
            "absent": {},
            "scored": [],
            "samples": [],
            "incomplete": [],
        }
        write_tables(output, tables, record)

    def pictures_of_stage1(self) -> None:
        """Put the pictures of stage 1."""
        self.pictures(stage1(self.config, SUBJECT), self.ids[:N_TEST])

    def first_pictures_of_controls(self) -> None:
        """Put the first picture of each control that the generator makes, but for the ceiling; and the mean image.

        That one takes minutes, and little memory: it reads all training images, some at a time.
        """
        self.pictures(control(self.config, SUBJECT, "control/mean_image"), self.ids[:N_TEST])
        for name in ("control/shuffled", "control/permuted", "bottleneck/100"):
            self.pictures(control(self.config, SUBJECT, name), self.ids[:N_TEST], 1)

    def everything_on_the_page(self) -> None:
        """Put the tables, the pictures of all systems of the page, and the way of stage 2."""
        self.tables()
        ids = self.ids[:N_TEST]
        for name, samples in wanted(self.config, SUBJECT).items():
            if name in SYSTEMS and SYSTEMS[name].kind in TABULATED:
                self.pictures(samples[0], ids)
        self.trajectories(wanted(self.config, SUBJECT)["minddiffuser/stage2"][0].path, ids)

    # What is of rivals.

    def takagi(self) -> None:
        """Put all parts but the last of Takagi's targets, and all but the first of the bundled form's decoders."""
        artifact = Artifact(takagi.targets(self.config, SUBJECT))
        for number, rows in artifact.parts_to_do(self.n_images, 256)[:-1]:
            n = rows.stop - rows.start
            arrays = {"z_mean": self.normal(n, 4, 40, 40), "z_sample": self.normal(n, 4, 40, 40)}
            artifact.write_part(number, {**arrays, "c": self.normal(n, 77, 768), "stimulus_id": self.ids[rows]})
        form = takagi.forms(self.config)["minddiffuser"]
        for family, n_units in N_UNITS.items():
            recipe = takagi.decoder(self.config, SUBJECT, form, family)
            self.parts(recipe, n_units, getattr(form, f"n_voxels_{family}"))

    def takagi_decoded(self) -> None:
        """Put what all forms of Takagi's method decode."""
        for name in takagi.forms(self.config):
            z, c = (Z, C) if name == "minddiffuser" else ((4, 40, 40), (77, 768))
            arrays = {"z": self.normal(N_TEST, *z), "c": self.normal(N_TEST, *c), "stimulus_id": self.ids[:N_TEST]}
            recipe = takagi.decoded(self.config, SUBJECT, name)
            self.put(recipe, lambda file, arrays=arrays: _fill(file, arrays))

    def ozcelik(self) -> None:
        """Put all parts but the last of the instance features, and of the inversion."""
        ids, n_noise, n_dense = self.ids, 17 * 7, 16 * 16 * WIDTH_OF_GENERATOR
        for recipe, of, shapes in (
            (ozcelik.instances(self.config, SUBJECT), ids, {"features": N_POOLED}),
            (ozcelik.inversion(self.config, SUBJECT), ids[N_TEST:], {"noise": n_noise, "dense": n_dense}),
        ):
            artifact = Artifact(recipe)
            for number, rows in artifact.parts_to_do(len(of), 256)[:-1]:
                n = rows.stop - rows.start
                arrays = {key: self.normal(n, length) for key, length in shapes.items()}
                if "dense" in arrays:
                    arrays["error"] = np.ones(n, np.float32)
                artifact.write_part(number, {**arrays, "stimulus_id": of[rows]})

    def ozcelik_decoded(self) -> None:
        """Put what all forms of Ozcelik's method decode."""
        for name, form in ozcelik.forms(self.config).items():
            arrays = {"features": self.normal(N_TEST, N_POOLED), "noise": self.normal(N_TEST, 17 * 7)}
            if form.noise == "decoded":
                arrays["dense"] = self.normal(N_TEST, 16 * 16 * WIDTH_OF_GENERATOR)
            arrays["stimulus_id"] = self.ids[:N_TEST]
            recipe = ozcelik.decoded(self.config, SUBJECT, name)
            self.put(recipe, lambda file, arrays=arrays: _fill(file, arrays))

    # What is of Generic Object Decoding.

    def god(self) -> None:
        """Write Generic Object Decoding: 1,200 and 50 images, and the trials of a subject."""
        root, wnids = self.config.god, imagenet_classes().wnids
        if root.is_dir():
            return
        names = {
            "training": [f"{wnid}_{k}.JPEG" for wnid in wnids[:150] for k in range(1, 9)],
            "test": [f"{wnid}_1.JPEG" for wnid in wnids[150:200]],
        }
        ids = {}
        for kind, listed in (("training", god.TRAINING_IMAGES), ("test", god.TEST_IMAGES)):
            (root / "images" / kind).mkdir(parents=True)
            keys = [god.picture_key(name) for name in names[kind]]
            lines = [
                f'{key // 10**6}.{key % 10**6:06d},"{name}"\n' for key, name in zip(keys, names[kind], strict=True)
            ]
            (root / listed).write_text("".join(lines))
            ids[kind] = np.array(keys) / 1e6
            for name in names[kind]:
                os.link(self._photograph(0), root / "images" / kind / name)
        runs = [(god.TRAINING, k + 1, ids["training"][50 * k : 50 * k + 50]) for k in range(24)]
        runs += [(god.PERCEPTION, k + 1, ids["test"]) for k in range(35)]
        runs += [(god.IMAGERY, k + 1, ids["test"][25 * (k % 2) : 25 * (k % 2) + 25]) for k in range(20)]
        n_trials, n_voxels = sum(len(of_run) for *_, of_run in runs), god.SPM_VOXELS[GOD_SUBJECT]
        columns = {
            "VoxelData": self.normal(n_trials, n_voxels),
            "DataType": np.concatenate([np.full(len(of_run), kind) for kind, _, of_run in runs]),
            "Run": np.concatenate([np.full(len(of_run), number) for _, number, of_run in runs]),
            "stimulus_id": np.concatenate([of_run for *_, of_run in runs]),
        }
        write_bdata(root / f"{GOD_SUBJECT}.h5", columns, {"ROI_VC": {"VoxelData": 1}})

    def _photograph(self, number: int) -> Path:
        """Make a JPEG of 500 pixels; one number for each 30,000 links."""
        path = self.folder / f"photograph{number}.JPEG"
        if not path.is_file():
            small = np.random.default_rng(number).integers(0, 256, (48, 48, 3), dtype=np.uint8)
            Image.fromarray(small).resize((500, 500), Image.Resampling.BICUBIC).save(path, quality=90)
        return path

    def imagenet(self) -> None:
        """Write a folder of each class with as many images as the bank takes of it."""
        root = Path(self.config.execution.imagenet)
        for number, wnid in enumerate(imagenet_classes().wnids):
            (root / wnid).mkdir(parents=True)
            for k in range(BANK_PER_CLASS):
                os.link(self._photograph(number * BANK_PER_CLASS // _LINKS), root / wnid / f"{wnid}_{k}.JPEG")

    def bank(self) -> None:
        """Put the bank of ImageNet's features."""
        recipe = concepts.bank(self.config, {concepts.IMAGES: "0" * 16, concepts.CLASSES: "0" * 16})
        self.put(recipe, self._bank)

    def _bank(self, file: h5py.File) -> None:
        n, classes, text = N_CLASSES * BANK_PER_CLASS, imagenet_classes(), h5py.string_dtype()
        self._tiled(file, "features", (n, N_POOLED))
        file["class_index"] = np.arange(n) // BANK_PER_CLASS
        file["image"] = np.arange(n)
        file["class_wnid"], file["class_label"] = (np.array(x, text) for x in (classes.wnids, classes.labels))
        file["head_weight"], file["head_bias"] = self.normal(N_CLASSES, N_POOLED), np.zeros(N_CLASSES, np.float32)

    def labels(self) -> None:
        """Put the labels that all forms of Semantic Brain Decoding decode."""
        images, classes, text = (
            god.read_images(self.config.god / god.TEST_IMAGES),
            imagenet_classes(),
            h5py.string_dtype(),
        )
        for name in concepts.settings_of(self.config).forms:
            arrays = {
                "stimulus_id": images.ids,
                "image_name": np.array(images.names, text),
                "n_repetitions": np.full(len(images.ids), 35),
                "features": self.normal(len(images.ids), N_POOLED),
                "classes": self.rng.integers(0, N_CLASSES, (len(images.ids), 5)),
                "classes_of_stimuli": self.rng.integers(0, N_CLASSES, (len(images.ids), 5)),
                "class_wnid": np.array(classes.wnids, text),
                "class_label": np.array(classes.labels, text),
                "training_wnid": np.array(classes.wnids[:150], text),
                "mse_training": 1.0,
                "mse_test": 1.0,
                "mse_test_raw": 1.0,
            }
            recipe = concepts.labels(self.config, GOD_SUBJECT, name, "0" * 16)
            self.put(recipe, lambda file, arrays=arrays: _fill(file, arrays))

    def pictures_of_labels(self) -> None:
        """Put a picture of each test image for each of its labels."""
        ids = god.read_images(self.config.god / god.TEST_IMAGES).ids
        for samples in concepts.systems(self.config, GOD_SUBJECT).values():
            for recipe in samples:
                self.pictures(recipe, ids)

    # Models.

    def stable_diffusion(self) -> None:
        """Write Stable Diffusion v1-4."""
        root = Path(self.config.experiment.models.stable_diffusion)
        if root.is_dir():
            return
        for name, part in random_stable_diffusion(torch.device("cpu")).items():
            part.save_pretrained(root / name)
        clip_tokenizer().save_pretrained(root / "tokenizer")

    def clip(self) -> None:
        """Write the CLIP that guides."""
        self._clip("ViT-B-32-quickgelu", self.config.experiment.models.clip)

    def scoring_clip(self) -> None:
        """Write the CLIP that scores."""
        self._clip("ViT-L-14-quickgelu", self.config.experiment.models.scoring_clip)

    def _clip(self, name: str, place: str) -> None:
        from safetensors.torch import save_file

        root = Path(place.removeprefix("local-dir:"))
        if root.is_dir():
            return
        root.mkdir(parents=True)
        clip = random_clip(name, torch.device("cpu"))
        settings: dict[str, Any] = {
            "model_cfg": open_clip.get_model_config(name), "preprocess_cfg": {"mean": clip.mean, "std": clip.std}
        }  # fmt: skip
        save_file(clip.model.state_dict(), root / "open_clip_model.safetensors")
        (root / "open_clip_config.json").write_text(json.dumps(settings))

    def networks(self) -> None:
        """Write the networks that score, and ResNet-50."""
        hub = Path(str(self.config.execution.torch_hub))
        if not hub.is_dir():
            write_random_networks(hub)
            torch.save(resnet50().state_dict(), resnet50_weights(hub))

    def generator(self) -> None:
        """Write IC-GAN's generator of 256 pixels."""
        assert self.config.experiment.ozcelik
        root = Path(self.config.experiment.ozcelik.generator)
        if root.is_dir():
            return
        root.mkdir(parents=True)
        with torch.device("meta"):  # orthogonal weights would take long
            model = Generator([WIDTH_OF_GENERATOR * k for k in CHANNELS_256], attention_after=3)
        state = {
            name: torch.ones(tensor.shape) if name.endswith("stored_var") else torch.randn(tensor.shape) * 0.05
            for name, tensor in model.state_dict().items()
        }
        torch.save(state, root / "G_ema_best0.pth")


def _fill(file: h5py.File, arrays: Mapping[str, Any]) -> None:
    for name, array in arrays.items():
        file[name] = array
