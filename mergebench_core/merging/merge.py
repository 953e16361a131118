"""Merging own models: the engine of a run with a file as its sink."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mergebench_core import hub
from mergebench_core.checkpoints.assembly import NonFiniteMerge
from mergebench_core.checkpoints.policy import MergePlan, check_fit, merge_plan
from mergebench_core.checkpoints.writer import CheckpointWriter
from mergebench_core.environment import num_cores
from mergebench_core.errors import CheckpointError, InputError, MethodError, RunError
from mergebench_core.hyperparameters import Hyperparameter
from mergebench_core.merging.card import recipe_document, write_beside
from mergebench_core.merging.findings import Finding, find_all
from mergebench_core.merging.journal import ImpatientAssembly, JournaledWriter
from mergebench_core.merging.models import Model, open_model
from mergebench_core.merging.reading import InputReading, blame_inputs
from mergebench_core.merging.recipe import Recipe, configuration, read_recipe, untuned
from mergebench_core.merging.samples import MergeServices, SampleFile, read_samples
from mergebench_core.merging.target import MergeTarget
from mergebench_core.tuning import config_text
from mergebench_core.worker.catalog import CatalogMethod, find_method, load_catalog
from mergebench_core.worker.host import Job, MethodWorker

DOMAIN = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class MergeOrder:
    """What a user wants merged."""

    method: str
    base: str
    """A folder, or `owner/name[@revision]` on the Hub."""
    specialists: Mapping[str, str]
    """By domain."""
    out: Path
    settings: Mapping[str, Hyperparameter] = field(default_factory=dict)
    """Hyper-parameters, as values or as text."""
    seed: int = 0
    num_threads: int | None = None
    """None: all cores for an exact method, whose result does not depend on it, else one."""
    plugin: Path | None = None
    samples: Mapping[str, Path] = field(default_factory=dict)
    """Calibration samples by domain."""
    is_forced: bool = False
    """Whether what is in `out` may be replaced."""
    push: str | None = None
    is_private: bool = False

    def command(self) -> list[str]:
        """Return the command line that does the same."""
        words = ["mergebench", "merge", self.method, "--base", self.base]
        pairs = [("--specialist", self.specialists), ("--set", self.settings), ("--samples", self.samples)]
        for option, values in pairs:
            for name, value in values.items():
                words += [option, f"{name}={str(value).lower() if isinstance(value, bool) else value}"]
        words += ["--seed", str(self.seed)] if self.seed else []
        words += ["--threads", str(self.num_threads)] if self.num_threads else []
        words += ["--plugin", str(self.plugin)] if self.plugin else []
        return [*words, "--out", str(self.out)]


@dataclass(frozen=True, kw_only=True)
class MergeResult:
    """A merged model in its folder."""

    folder: Path
    recipe: Mapping[str, Any]
    """What `mergebench_recipe.json` holds."""
    is_new: bool
    """False if the same merge was there already."""
    pushed_to: str | None
    """Its address on the Hub, if it was pushed."""
    untuned: tuple[str, ...]
    """Hyper-parameters at their defaults that a run would have chosen on validation tasks."""

    @property
    def weights_sha256(self) -> str:
        """Digest of the merged weights."""
        return str(self.recipe["weights_sha256"])

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        top = {"status": "merged" if self.is_new else "there already", "folder": str(self.folder)}
        return top | {"pushed_to": self.pushed_to, "untuned": list(self.untuned), **self.recipe}


def merge_models(order: MergeOrder, progress: hub.Progress) -> MergeResult:
    """Merge models into a folder that transformers loads. An interrupted merge goes on where it was.

    Raises:
        InputError: anything in the order, or models that do not fit together; nothing has been written.
        RunError: the method failed, or the push.
    """
    method = find_method(load_catalog(order.plugin), order.method)
    _check_domains(order)
    config = configuration(method.description, order.settings, tuple(sorted(order.specialists)))
    samples = _read_samples(order, method)
    target = MergeTarget(order.out)
    if target.is_taken() and not order.is_forced and read_recipe(target.out) is None:
        raise _taken(target)
    if order.push:
        hub.check_push(order.push)
    recipe = Recipe(
        method=method,
        config=config,
        seed=order.seed,
        num_threads=order.num_threads or _default_threads(method),
        samples_sha256={domain: file.sha256 for domain, file in samples.items()},
        models=_open_models(order, progress),
    )
    merge = OwnMerge(order=order, recipe=recipe, samples=samples, target=target, progress=progress)
    document, is_new = merge.execute()
    pushed_to = None
    if order.push:
        progress(f"pushing to {order.push}")
        message = f"Merge by {method.description.name} (mergebench {document['mergebench_version']})"
        pushed_to = hub.push(target.out, order.push, is_private=order.is_private, message=message)
    return MergeResult(
        folder=target.out,
        recipe=document,
        is_new=is_new,
        pushed_to=pushed_to,
        untuned=tuple(untuned(method.description, order.settings)),
    )


def _default_threads(method: CatalogMethod) -> int:
    return num_cores() if method.description.determinism == "exact" else 1


def _check_domains(order: MergeOrder) -> None:
    if not order.specialists:
        raise InputError("nothing to merge: give at least one --specialist domain=PATH")
    for domain in order.specialists:
        if not DOMAIN.fullmatch(domain):
            raise InputError(f"--specialist {domain}: name a domain with a-z, 0-9, _ and -, at most 64 characters")


def _read_samples(order: MergeOrder, method: CatalogMethod) -> dict[str, SampleFile]:
    if unknown := sorted(set(order.samples) - set(order.specialists)):
        raise InputError(
            f"--samples {unknown[0]}: no specialist has this domain; have {', '.join(order.specialists)}"
        )
    is_needed = "calibration" in method.description.needs
    missing = [domain for domain in order.specialists if domain not in order.samples]
    if is_needed and missing:
        raise InputError(
            f"method '{order.method}' reads calibration samples: give --samples {missing[0]}=FILE.jsonl with rows "
            '{"prompt": ..., "completion": ...}'
        )
    if order.samples and not is_needed:
        raise InputError(f"method '{order.method}' reads no calibration samples; leave --samples out")
    return {domain: read_samples(path) for domain, path in sorted(order.samples.items())}


def _open_models(order: MergeOrder, progress: hub.Progress) -> dict[str, Model]:
    models = {"base": open_model("base", order.base, progress)}
    for domain, given in sorted(order.specialists.items()):
        models[f"specialist:{domain}"] = open_model(f"specialist '{domain}'", given, progress)
    return models


def _taken(target: MergeTarget) -> InputError:
    return InputError(f"--out {target.out}: not empty; give a new folder, or --force to replace what is there")


@dataclass(kw_only=True)
class OwnMerge:
    """One merge with its models open."""

    order: MergeOrder
    recipe: Recipe
    samples: Mapping[str, SampleFile]
    target: MergeTarget
    progress: hub.Progress

    def __post_init__(self) -> None:
        models = self.recipe.models
        self.base = models["base"]
        self.specialists = {label.partition(":")[2]: model for label, model in models.items() if label != "base"}
        self.plan: MergePlan = merge_plan(self.base.checkpoint, self.recipe.method.description.base_roles)
        self.reading = InputReading(models, self.plan)
        self.services = MergeServices(
            method=self.order.method, samples_by_domain=self.samples, progress=self.progress
        )

    def execute(self) -> tuple[dict[str, Any], bool]:
        """Return the recipe of the merged model, and whether it was not there already."""
        self._check()
        try:
            if self.target.is_taken() and (there := self._same_merge()) is not None:
                self.progress(f"{self.target.out}: this very merge is there already, nothing to do")
                return there, False
            self.target.check_space(self.base.checkpoint)
            with self.target.lock():
                return self._merge(), True
        except OSError as error:
            where = f"--out {self.target.out}: {error.strerror or error}"
            raise RunError(f"{where}; once there is room and leave to write, the same command goes on") from None
        finally:
            self.reading.stop()

    def _check(self) -> None:
        self.target.check_inputs([model.folder for model in self.recipe.models.values()])
        if not self.plan.merged:
            raise CheckpointError(f"{self.base.where}: has no tensor that method '{self.order.method}' merges")
        for model in self.specialists.values():
            check_fit(
                self.base.checkpoint, model.checkpoint, self.recipe.method.description.base_roles, model.where
            )

    def _same_merge(self) -> dict[str, Any] | None:
        """Return the recipe in the output folder if it is this one's; None if it may be replaced by it."""
        there = read_recipe(self.target.out)
        if there is not None and there.get("files_key") == self.recipe.files_key():
            return there
        if there is not None and not self.order.is_forced:
            self.progress("comparing with the merge that is there")
            if there.get("key") == self.recipe.key(self.reading.digests()):
                return there
        if not self.order.is_forced:
            raise _taken(self.target)
        return None

    def _merge(self) -> dict[str, Any]:
        if self.target.begin(self.recipe.files_key()):
            self.progress("going on with an interrupted merge")
        if not self.target.is_complete():
            with self._worker() as worker:
                self.reading.start()
                self._write(worker, self._findings())
        document = read_recipe(self.target.model)
        assert document is not None
        self.target.publish()
        return document

    def _findings(self) -> list[Finding]:
        findings = find_all(self.base, self.specialists, self.plan)
        for found in findings:
            if found.kind == "warning":
                self.progress(f"warning: {found.text}")
        return findings

    def _write(self, worker: MethodWorker, findings: Sequence[Finding]) -> None:
        try:
            digest = self._write_weights(worker)
            digests = self.reading.digests()
        except InputError:
            self.target.discard()
            raise
        except (NonFiniteMerge, MethodError) as error:
            self._blame_inputs()
            if isinstance(error, NonFiniteMerge) or not self.target.has_finished():
                self.target.clear(keeps_log=True)
            raise RunError(f"method '{self.order.method}' with {self._config_text()}: {error}") from None
        document = recipe_document(
            self.recipe,
            self.plan,
            findings,
            weights_sha256=digest,
            digests=digests,
            command=self.order.command(),
            num_samples=self.services.num_read,
        )
        write_beside(self.target.model, self.base.folder, document)

    def _blame_inputs(self) -> None:
        """Look for an input that explains a failure, and forget the merge if there is one."""
        self.reading.stop()
        try:
            blame_inputs(self.recipe.models, self.plan)
        except CheckpointError:
            self.target.discard()
            raise

    def _write_weights(self, worker: MethodWorker) -> str:
        """Prepare and merge into the hidden folder; return the digest of what was written."""
        description = self.recipe.method.description
        can_go_on = description.depth != "model"
        finished = self.target.finished(self.plan) if can_go_on else {}
        writer = CheckpointWriter(
            self.base.checkpoint, self.target.model, finished=finished, on_finished=self.target.note_finished
        )
        num_done = writer.num_kept
        self.target.keep_finished(dict(list(finished.items())[:num_done]))
        sink = JournaledWriter(
            base=self.base.checkpoint,
            writer=writer,
            reading=self.reading,
            progress=self.progress,
        )
        sink.count_kept(self.plan.merged[:num_done])
        assembly = ImpatientAssembly(
            base=self.base.checkpoint,
            entries=self.plan.merged[num_done:],
            sink=sink,
            coefficient=description.coefficient(self.recipe.config),
        )
        try:
            if num_done < len(self.plan.merged):
                worker.load(self.recipe.method.sources)
                worker.open(self._job())
                self.progress(f"{description.name}: preparing {self._config_text()}")
                worker.prepare(self.recipe.config, is_fresh=True)
                worker.merge(self.recipe.config, assembly, num_done=num_done)
            for entry in self.plan.left_out:
                sink.copy_from_base(entry)
            return writer.finish()
        finally:
            writer.pause()

    def _job(self) -> Job:
        return Job(
            method=self.order.method,
            base=self.base.folder.resolve(),
            specialists={domain: model.folder.resolve() for domain, model in self.specialists.items()},
            seed=self.order.seed,
            num_threads=self.recipe.num_threads,
        )

    def _worker(self) -> MethodWorker:
        return MethodWorker(
            num_threads=self.recipe.num_threads,
            log_file=self.target.log_file,
            folder=self.target.work_folder,
            services=self.services,
            sources=self.recipe.method.sources,
            models=[model.folder.resolve() for model in self.recipe.models.values()],
            is_warm=True,
        )

    def _config_text(self) -> str:
        return config_text(self.recipe.config) or "(no hyper-parameters)"
