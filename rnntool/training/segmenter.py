"""The segmenter of a tagger, which is trained before it on the same treebank."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from rnntool import model_folder
from rnntool.data.formats.conllu import CONLLU, is_conllu, with_tokens
from rnntool.data.records import Sentence
from rnntool.errors import DataError, RnntoolError, setting
from rnntool.tasks.base import task_class
from rnntool.tasks.specs.segment import SPEC, SegmentSettings
from rnntool.tasks.specs.settings import Settings
from rnntool.training.advice import result
from rnntool.training.job import Job
from rnntool.training.loop import Interrupted
from rnntool.training.part import Fit, is_trained, train_part
from rnntool.training.session import Session
from rnntool.training.training_data import TrainingData, split

TIME_SHARE = 0.25  # of the time limit, at most


def train_segmenter(
    job: Job, data: TrainingData, out: Path, session: Session, *, fit: Fit,
    fingerprints: Mapping[str, str], resume: bool, start: float,
) -> Path:
    """Train a segmenter on the sentences of a tagger's `data`, which are CoNLL-U; return its folder.

    With `resume`, a segmenter that was trained before is kept. Its share of the time counts from `start`.
    After a signal, raises `Interrupted`; what was trained stays in the folder `SEGMENTING` of `out`.
    """
    place = out / model_folder.SEGMENTING / model_folder.SEGMENTER
    if not resume:
        with model_folder.staged(out, model_folder.SEGMENTING) as stage:
            job.save(stage / model_folder.JOB, fingerprints)
        model_folder.remove(out / model_folder.RESUME)  # of an older training
        model_folder.remove(out / model_folder.FOLDS)
    elif is_trained(place):
        return place
    settings = _settings(job.settings)
    try:
        train_part(dataclasses.replace(job, task=SPEC.name, settings=settings, predictions=None, places={}),
                   _data(data, job, settings), place, session, fit, start, name=SPEC.name)
    except RnntoolError as error:
        if not isinstance(error, Interrupted):  # there is nothing worth resuming
            model_folder.remove(out / model_folder.SEGMENTING)
        raise
    session.warn(f"segmenter: {result(model_folder.read_config(place))}")
    return place


def _settings(tagger: Settings) -> SegmentSettings:
    """Return the default settings of a segmenter, except for those that it shares with the tagger."""
    limit_s = tagger.time_limit
    return SegmentSettings(
        dev_fraction=tagger.dev_fraction, seed=tagger.seed, int8=tagger.int8, license=tagger.license,
        language=tagger.language, max_time=TIME_SHARE * limit_s if limit_s else None)


def _data(data: TrainingData, job: Job, settings: SegmentSettings) -> TrainingData:
    """Return the data of the tagger, with the tokens of each sentence."""
    def sentences(records: Sequence[Sentence]) -> list[Sentence]:
        if other := next((record for record in records if not is_conllu(record)), None):
            raise DataError(place=other.place, expected=f"{CONLLU.name}, from which a segmenter learns",
                            found="another format", advice=f"leave {setting('segmenter', 'train')} out")
        return list(with_tokens(records))

    kind, records = task_class(SPEC.name), sentences(data.records)
    train, dev = (records, sentences(data.dev)) if job.dev else split(kind, records, settings)
    return TrainingData(records=records, train=train, dev=dev)
