"""Opens the encoder of a bundle in ONNX Runtime, after a look at what the file could do."""

from __future__ import annotations

import numpy as np
import onnxruntime

from models.contracts import ENCODER, ENCODER_INPUT, ENCODER_OUTPUT, BundleError
from service.candidates.onnx_file import check_onnx


def load_encoder(
    content: bytes, dimension: int, length: int, threads: int = 1
) -> onnxruntime.InferenceSession:
    """Opens an encoder and tries it on histories of 1 and of L items.

    Args:
        content: contents of ``encoder.onnx``.
        dimension: d of the item vectors and of the user vector.
        length: L, the longest history that it must take.
        threads: threads of ONNX Runtime per call, at least 1. Left to itself it would count the host's cores
            and not the container's.

    Raises:
        BundleError: it is no ONNX model, reads other files, has other inputs or outputs than an encoder, or
            does not run; the message says which.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # what goes wrong is raised too, and told in one sentence
    # Threads that wait actively ("spin") between two requests would take the cores from other workers.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        check_onnx(content)
        session = onnxruntime.InferenceSession(
            content, sess_options=options, providers=["CPUExecutionProvider"]
        )
        _check_signature(session, dimension)
        # Also, it plans its memory at the first run of each shape, which no request should wait for.
        for n in sorted({1, length}):
            _try(session, n, dimension)
    except Exception as error:  # ONNX Runtime has an exception of its own for everything, and no common base
        reason = " ".join(str(error).split())[:300]
        raise BundleError(f"{ENCODER} cannot be used ({reason}): export it again") from error
    return session


def _check_signature(session: onnxruntime.InferenceSession, dimension: int) -> None:
    given, made = session.get_inputs(), session.get_outputs()
    names = [each.name for each in given], [each.name for each in made]
    if names != ([ENCODER_INPUT], [ENCODER_OUTPUT]):
        raise ValueError(
            f"it takes {names[0]} and gives {names[1]}, not {ENCODER_INPUT} and {ENCODER_OUTPUT}"
        )
    # An axis of any length has a name, or None, in place of a number.
    wanted = ((given[0], (1, None, dimension)), (made[0], (1, dimension)))
    for each, shape in wanted:
        fits = len(each.shape) == len(shape) and all(
            expected is None or axis == expected or not isinstance(axis, int)
            for axis, expected in zip(each.shape, shape, strict=True)
        )
        if each.type != "tensor(float)" or not fits:
            raise ValueError(f"{each.name} is {each.type} {each.shape}, expected float {shape}")


def _try(session: onnxruntime.InferenceSession, n: int, dimension: int) -> None:
    (user,) = session.run([ENCODER_OUTPUT], {ENCODER_INPUT: np.zeros((1, n, dimension), np.float32)})
    if user.dtype != np.float32 or user.shape != (1, dimension) or not np.isfinite(user).all():
        raise ValueError(f"after {n} items it gives {user.dtype} {user.shape}, or not a number")
