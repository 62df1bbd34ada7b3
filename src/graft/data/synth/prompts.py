"""What the teacher is asked, in English and in Chinese."""

from collections.abc import Sequence
from typing import Any

from graft.data.synth.seeds import Task
from graft.data.synth.settings import Language

NEW_ITEMS = 8
"""New instructions that one reply is asked for, as many as the tasks that it is shown."""

PROMPTS: dict[Language, dict[str, Any]] = {
    "en": {
        "instructions": (
            "Below are {shown} tasks for a language model that reads and writes text. Write {new} more, in English.\n"
            "- Each is of another kind and on another subject than the rest: questions, rewriting, sorting into "
            "classes, extracting, planning, explaining, arithmetic, advice, short stories and so on.\n"
            "- Each can be done with text alone: nothing to see, hear, draw, look up or run.\n"
            "- Each is one or two sentences, an order or a question. Material that it works on is not part of it.\n"
            "Go on with the numbers, and write nothing else.\n\n{tasks}\n{next}."
        ),
        "classification": (
            "Is the last of these tasks a classification task, that is, one whose answer is one of a few labels that "
            "are known beforehand? Answer yes or no.\n\n{tasks}\nTask: {instruction}\nClassification:"
        ),
        "task": "Task: {instruction}\nClassification: {answer}\n",
        "answers": ("no", "yes"),
        "input_first": (
            "Write up to {count} examples of the task at the end, each different, complete and correct. If the task "
            "needs material to work on, write it after Input; if the instruction says all, write Input: none, and one "
            "example is enough. Keep to this form, and write nothing else.\n\n{tasks}\nTask: {instruction}\n"
        ),
        "output_first": (
            "Write up to {count} examples of the classification task at the end. For each write a label first, another "
            "one each time as far as there are more, then an input that has this label. Keep to this form, and write "
            "nothing else.\n\n{tasks}\nTask: {instruction}\n"
        ),
        "shown": "Task: {instruction}\n{examples}\n",
        "input": "Input: {input}\nOutput: {output}\n",
        "label": "Class label: {output}\nInput: {input}\n",
        "none": "none",
    },
    "zh": {
        "instructions": (
            "下面是 {shown} 个给语言模型的任务，模型只能读写文字。请再用中文写 {new} 个新任务。\n"
            "- 每个任务的类型和主题都要与其他任务不同：问答、改写、分类、信息提取、规划、解释、计算、"
            "建议、短故事等等。\n"
            "- 每个任务只用文字就能完成，不需要看、听、画、查资料或运行程序。\n"
            "- 每个任务是一两句话的要求或问题，不包含要处理的材料。\n"
            "请接着编号往下写，不要写别的内容。\n\n{tasks}\n{next}."
        ),
        "classification": (
            "下面最后一个任务是不是分类任务，也就是答案只能从事先确定的几个标签中选一个？请回答“是”或“否”。\n\n"
            "{tasks}\n任务：{instruction}\n分类任务："
        ),
        "task": "任务：{instruction}\n分类任务：{answer}\n",
        "answers": ("否", "是"),
        "input_first": (
            "请为最后的任务写最多 {count} 个例子，各不相同，完整而且正确。如果任务需要处理材料，就写在“输入：”后面；"
            "如果指令已经说清楚了一切，就写“输入：无”，写一个例子即可。请严格按照下面的格式，不要写别的内容。\n\n"
            "{tasks}\n任务：{instruction}\n"
        ),
        "output_first": (
            "请为最后的分类任务写最多 {count} 个例子。每个例子先写一个标签，尽量每次用不同的标签，"
            "再写一个属于该标签的输入。"
            "请严格按照下面的格式，不要写别的内容。\n\n{tasks}\n任务：{instruction}\n"
        ),
        "shown": "任务：{instruction}\n{examples}\n",
        "input": "输入：{input}\n输出：{output}\n",
        "label": "类别：{output}\n输入：{input}\n",
        "none": "无",
    },
}


def ask_for_instructions(shown: Sequence[Task], language: Language) -> str:
    """A list of the tasks in `shown`, to be gone on with."""
    tasks = "\n".join(f"{n}. {_line(task.instruction)}" for n, task in enumerate(shown, start=1))
    prompt: str = PROMPTS[language]["instructions"]
    return prompt.format(shown=len(shown), new=NEW_ITEMS, tasks=tasks, next=len(shown) + 1)


def ask_for_kind(instruction: str, shown: Sequence[Task], language: Language) -> str:
    """Whether `instruction` is a classification task, after some of which it is known."""
    words = PROMPTS[language]
    tasks = "".join(
        words["task"].format(instruction=_line(task.instruction), answer=words["answers"][task.is_classification])
        for task in shown
    )
    prompt: str = words["classification"]
    return prompt.format(tasks=tasks, instruction=_line(instruction))


def ask_for_instances(instruction: str, shown: Sequence[Task], language: Language, *, labels: bool, count: int) -> str:
    """Examples of `instruction`, after those of others.

    Args:
        labels: it is a classification task: outputs are asked for before inputs, as the inputs would otherwise all be
            of one class.
    """
    words = PROMPTS[language]
    form = words["label" if labels else "input"]
    tasks = "".join(
        words["shown"].format(
            instruction=_line(task.instruction),
            examples="".join(
                form.format(input=instance.input or words["none"], output=instance.output)
                for instance in task.instances[:count]
            ),
        )
        for task in shown
    )
    prompt: str = words["output_first" if labels else "input_first"]
    return prompt.format(count=count, tasks=tasks, instruction=_line(instruction))


def _line(instruction: str) -> str:
    return " ".join(instruction.split())
