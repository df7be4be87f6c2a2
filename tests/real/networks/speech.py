"""silero-vad: where speech is in a recording, 32 ms at a time, on what espeak-ng says.

The state of the network goes from window to window, so that the evaluation runs whole recordings.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from .network import Arrays, Network, Run, Samples, folder_of
from .prose import sentences

RATE, WINDOW, CONTEXT = 16000, 512, 64
SPOKEN_RATE, HEADER = 22050, 44  # of the WAV file that espeak-ng writes
CALIBRATION, RECORDINGS, WINDOWS = 512, 24, 200
VOICES = ("en-us", "en-gb", "de", "fr", "es", "en-us+f3", "en-gb+m3", "it+f2")
STATE = (2, 1, 128)


class SileroVad(Network):
    name, metric = "silero-vad", "windows with float's decision"

    def model(self, path: Path) -> None:
        shutil.copyfile(folder_of("silero_vad") / "data/silero_vad_openvino_16k.onnx", path)

    def samples(self, model: Path) -> Samples:
        """Calibration: windows with the states that the float network has there."""
        import onnxruntime

        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        recordings = _recordings()
        seen: list[tuple[np.ndarray, np.ndarray]] = []

        def run(inputs: Arrays) -> list[np.ndarray]:
            seen.append((inputs["input"], inputs["state"]))
            return list(session.run(None, dict(inputs)))

        self.outputs(run, {"recordings": recordings[: RECORDINGS // 3]})
        chosen = np.random.default_rng(1).permutation(len(seen))[:CALIBRATION]
        windows, states = zip(*(seen[index] for index in chosen), strict=True)
        return Samples(
            {"input": np.concatenate(windows), "state": np.concatenate(states, axis=1)},
            {"recordings": recordings[RECORDINGS // 3 :]},
        )

    def outputs(self, run: Run, inputs: Arrays) -> list[np.ndarray]:
        """The probability of speech, [recordings, windows]."""
        found = []
        for recording in inputs["recordings"]:  # [CONTEXT + WINDOWS · WINDOW]
            state, probabilities = np.zeros(STATE, np.float32), []
            for start in range(0, WINDOWS * WINDOW, WINDOW):
                window = recording[None, start : start + CONTEXT + WINDOW]
                probability, state = run({"input": window, "state": state})
                probabilities.append(float(probability[0, 0]))
            found.append(probabilities)
        return [np.array(found)]

    def calibration(self, samples: Arrays) -> Iterator[dict[str, np.ndarray]]:
        """One by one: the batch is the second axis of the state."""
        for index, window in enumerate(samples["input"]):
            yield {"input": window[None], "state": samples["state"][:, index : index + 1]}

    def one(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """The first window."""
        return {"input": inputs["recordings"][:1, : CONTEXT + WINDOW], "state": np.zeros(STATE, np.float32)}

    def score(self, outputs: list[np.ndarray], expected: list[np.ndarray], truth: np.ndarray | None) -> float:
        return float(((outputs[0] > 0.5) == (expected[0] > 0.5)).mean())


def _recordings() -> np.ndarray:
    """Sentences with pauses and noise between, float32 [RECORDINGS, CONTEXT + WINDOWS · WINDOW]."""
    random, texts, length = np.random.default_rng(0), sentences(), WINDOWS * WINDOW
    found = []
    for index in range(RECORDINGS):
        parts: list[np.ndarray] = []
        while sum(map(len, parts)) < length:
            parts.append(np.zeros(int(random.uniform(0.1, 1.2) * RATE)))
            parts.append(_spoken(texts[random.integers(len(texts))], VOICES[index % len(VOICES)], random))
        sound = np.concatenate(parts)[:length] * random.uniform(0.1, 0.9)
        noise = random.normal(0, 10 ** random.uniform(-4, -1.3), length)
        if index % 2:  # as of a fan: low frequencies
            noise = np.convolve(noise, np.ones(8) / 3, "same")
        found.append(np.concatenate((np.zeros(CONTEXT), np.clip(sound + noise, -1, 1))))
    return np.stack(found).astype(np.float32)


def _spoken(text: str, voice: str, random: np.random.Generator) -> np.ndarray:
    speed, pitch = (str(int(random.integers(*limits))) for limits in ((120, 200), (20, 80)))
    command = ["espeak-ng", "-v", voice, "-s", speed, "-p", pitch, "--stdout", text]
    sound = subprocess.run(command, check=True, capture_output=True).stdout
    samples = np.frombuffer(sound[HEADER:], np.int16)  # its header does not know how much will come
    return np.asarray(resample_poly(samples / 32768, RATE, SPOKEN_RATE))
