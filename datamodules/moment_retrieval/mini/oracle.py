"""The ceiling of the mini moments: classical classifiers that are told where every shot begins and ends, and the query.

Pictures: a support vector machine trained on the clean training images reads the mean picture of a shot. Stripes: a
classifier trained on shots of stripes made for it reads the mean spectrum. Every shot gets the product of their
probabilities for what the query asks; a clip's saliency is its shot's, plus how clearly it shows the shot's picture.
"""

import numpy as np

from datamodules.moment_retrieval.mini.stripes import CLIP, MOTIONS, stripes

EXAMPLES = 400  # shots of each motion that the reader of stripes is shown
MOST = 10  # windows per query
CLARITY = 0.25  # weight of how clearly a clip is seen, against the probability that its shot is meant


def read_test(queries, images, settings, seed: int) -> list[dict]:
    """One row per query: qid, pred_relevant_windows [[start, end, score], ...] and pred_saliency_scores.

    queries: queries to the test videos; images: clean training pixels (N, 8, 8) and labels.
    """
    # imported here: it takes a second, and a data set that exists does not need it
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    pixels, labels = images
    pictures = SVC(gamma="scale", C=10).fit(unit(pixels.reshape(len(pixels), -1)), labels)
    rng = np.random.default_rng([seed, 0x0AC1E])
    length = max(1, (settings.min_shot + settings.max_shot) // 2)
    shown = np.repeat(np.arange(len(MOTIONS)), EXAMPLES)
    examples = stripes(np.repeat(shown, length), settings.motion_noise, rng).reshape(len(shown), length, -1).mean(1)
    motions = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)).fit(examples, shown)

    videos = list({query.video.name: query.video for query in queries}.values())
    means, spectra = (
        np.concatenate([[getattr(video, part)[a:b].mean(0) for a, b in video.shots[:, :2]] for video in videos])
        for part in ("pictures", "spectra")
    )
    votes = 2 * pictures.decision_function(unit(means))  # one vote against each other digit, and how sure
    votes = np.exp(votes - votes.max(1, keepdims=True))
    digit = votes / votes.sum(1, keepdims=True)  # (shots, 10)
    motion = motions.predict_proba(spectra)  # (shots, 4)
    first = dict(zip((video.name for video in videos), np.cumsum([0] + [len(v.shots) for v in videos]), strict=False))

    rows = []
    for query in queries:
        video, start = query.video, first[query.video.name]
        mine = slice(start, start + len(video.shots))
        fits = digit[mine, query.digit] * (1.0 if query.motion is None else motion[mine, query.motion])  # (S,)
        clarity = np.empty(video.clips)
        for a, b in video.shots[:, :2]:
            clarity[a:b] = video.pictures[a:b] @ unit(video.pictures[a:b].mean(0))
        clarity = (clarity - clarity.min()) / (np.ptp(clarity) + 1e-9)
        windows = [[*(CLIP * clip for clip in window), round(score, 4)] for window, score in ranked(video.shots, fits)]
        saliency = np.repeat(fits, video.shots[:, 1] - video.shots[:, 0]) + CLARITY * clarity
        scores = saliency.round(4).tolist()
        rows.append({"qid": query.qid, "pred_relevant_windows": windows[:MOST], "pred_saliency_scores": scores})
    return rows


def unit(values: np.ndarray) -> np.ndarray:
    """Every row (..., n) at length 1: a digit counts as much when it is faint."""
    return values / (np.linalg.norm(values, axis=-1, keepdims=True) + 1e-9)


def ranked(shots: np.ndarray, fits: np.ndarray) -> list[tuple[list[int], float]]:
    """([first clip, last + 1], score), best first: shots that fit, neighbours joined, and then all others alone."""
    runs: list[tuple[list[int], float]] = []
    for (first, end), score in zip(shots[:, :2].tolist(), fits.tolist(), strict=True):
        joins = runs and score > 0.5 and runs[-1][1] > 0.5 and runs[-1][0][1] == first
        if joins:
            (before, _), worst = runs[-1]
            runs[-1] = ([before, end], min(worst, score))
        else:
            runs.append(([first, end], score))
    return sorted(runs, key=lambda run: -run[1])
