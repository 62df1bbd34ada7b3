"""How long it takes to filter 52,000 instructions by ROUGE-L against all that were taken before, half of them Chinese.

    python bench/synth.py [COUNT]

The instructions are made up: sentences of a frame and words in a Zipf distribution as of real text, one in eight a
changed copy of an earlier one. The time is the processor's, of one thread. The first 2,000 are decided by comparing
with all as well, and must agree.
"""

import random
import sys
import time
from itertools import accumulate

from graft.data.checks.nearness import normal
from graft.data.rouge import rouge_l
from graft.data.synth.pool import Pool

FRAMES = {
    " ": ("Write a short {} about the", "Explain how {} can be", "Give three reasons why {}", "What is the {} of",
          "Rewrite the following sentence so that {}", "Describe the {} in detail", "Suggest a {} for", "{}"),
    "": ("写一篇关于{}的短文", "解释一下{}为什么", "列出三个{}的理由",
         "请用简单的话说明{}", "把下面的句子改写成{}", "{}"),
}  # fmt: skip
CHECKED = 2000


def instructions(count: int) -> list[str]:
    """Texts of 5 to 40 words or 8 to 60 characters."""
    draw = random.Random(1)
    vocabularies = {
        " ": ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(20_000)],
        "": [chr(0x4E00 + number) for number in draw.sample(range(0x5000), 4000)],
    }
    weights = {gap: list(accumulate(1 / (rank + 3) for rank in range(len(v)))) for gap, v in vocabularies.items()}
    texts: list[str] = []
    for number in range(count):
        gap = " " if number % 2 else ""
        if number % 8 in (6, 7) and number > 8:
            said = list(texts[draw.randrange(number)]) if not gap else texts[draw.randrange(number)].split(" ")
            said[draw.randrange(len(said))] = draw.choice(vocabularies[gap])
            texts.append(gap.join(said))
            continue
        size = draw.randint(3, 33) if gap else draw.randint(4, 50)
        said = draw.choices(vocabularies[gap], cum_weights=weights[gap], k=size)
        frame = draw.choice(FRAMES[gap])
        half = len(said) // 2
        texts.append(frame.format(gap.join(said[:half])) + gap + gap.join(said[half:]))
    return texts


def main() -> None:
    texts = instructions(int(sys.argv[1]) if len(sys.argv) > 1 else 52_000)
    pool, taken = Pool(0.7), 0
    decided: list[bool] = []
    began = time.process_time()
    for text in texts:
        decided.append(pool.alike(text) is not None)
        if not decided[-1]:
            pool.add(text)
            taken += 1
    seconds = time.process_time() - began
    print(f"{len(texts):,} instructions: {taken:,} taken, {len(texts) - taken:,} dropped, {seconds:.1f} s of processor")
    known: list[str] = []
    began = time.process_time()
    for number, text in enumerate(texts[:CHECKED]):
        near = any(rouge_l(other, normal(text)) > 0.7 for other in known)
        assert near == decided[number], text
        if not near:
            known.append(normal(text))
    seconds = time.process_time() - began
    print(f"the first {min(CHECKED, len(texts)):,} compared with all: the same decisions, {seconds:.1f} s of processor")


if __name__ == "__main__":
    main()
