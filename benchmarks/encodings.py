"""Files in old encodings come back as they were written, more often than with a detector alone.

    python benchmarks/encodings.py [--peers FOLDER]

Texts of our own in nine languages, whole and halved, in five kinds of files, are written in 22 encodings; an answer is
right when decoding with it gives the text back. Peers: charset-normalizer, which ours asks last, alone, and
faust-cchardet from the folder that `pip install --target FOLDER faust-cchardet` made. Speed is CPU time.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from stack_platform.languages.encoding import src_encoding

TEXTS = {
    "French": (
        "Écrit à Genève : les données sont triées, les clés vérifiées. Où êtes-vous né ? Ça dépend du côté gauche.",
        ("cp1252", "latin_1", "iso8859_15", "mac_roman", "cp850"),
    ),
    "Polish": (
        "Zażółć gęślą jaźń, źdźbło i pięść w łódce. Funkcja sprawdza, czy wartość jest większa niż poprzednia.",
        ("cp1250", "iso8859_2"),
    ),
    "Russian": (
        "Эта функция складывает два числа и печатает результат. Если число меньше нуля, возвращается ошибка.",
        ("cp1251", "koi8_r", "cp866"),
    ),
    "Japanese": (
        "この関数は二つの数を足して結果を画面に表示します。エラーがあれば例外を投げます。",
        ("shift_jis", "euc_jp", "utf-16-le", "utf-16-be", "utf-16", "utf-32"),
    ),
    "Chinese": ("这个函数计算两个数的总和并在屏幕上显示结果。如果出现错误则返回负数。", ("gbk", "gb18030")),
    "Chinese (Taiwan)": ("這個函數計算兩個數的總和並在螢幕上顯示結果。如果出現錯誤則傳回負數。", ("big5",)),
    "Korean": (
        "이 함수는 두 수의 합을 계산하여 화면에 결과를 표시합니다. 오류가 있으면 예외를 던집니다.",
        ("euc_kr", "cp949"),
    ),
    "Greek": ("Η συνάρτηση αυτή προσθέτει δύο αριθμούς και εμφανίζει το αποτέλεσμα.", ("cp1253",)),
    "Turkish": (
        "Bu işlev iki sayıyı toplar ve sonucu gösterir. Değişken sıfırdan küçükse hata döner; ağaç, çiçek, ığdır.",
        ("cp1254",),
    ),
    "Icelandic": (
        "Þetta fall leggur saman tvær tölur og prentar niðurstöðuna. Ýmsar villur geta komið upp í þessu.",
        ("cp1252",),
    ),
}
FILES = (
    "// {}\nint main(void) {{ return 0; }}\n",
    "# {}\ndef f(a):\n    return a\n",
    "/* {} */\nclass A {{\n  int b;\n}}\n",
    "{}\n",
    'print("{}")\n',
)

Detector = Callable[[bytes], str | None]


def main() -> None:
    """Print how often each detector gives the text back, its speed, and what ours misses."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers", type=Path)
    options = parser.parse_args()
    if options.peers:
        sys.path.append(str(options.peers))
    cases = written()
    ours = judge("ours", src_encoding, cases)
    for name, detector in peers():
        seconds = judge(name, detector, cases)
        print(f"  ratio of CPU time to ours: {seconds / ours:.2f}")


def written() -> list[tuple[str, bytes, str]]:
    """Return (encoding, bytes, text) of every text in every file and encoding."""
    cases = []
    for text, encodings in TEXTS.values():
        for encoding in encodings:
            for file in FILES:
                for part in (text, text[: len(text) // 2]):
                    said = file.format(part)
                    if encoding in {"utf-16-le", "utf-16-be"}:  # told by the NUL bytes of ASCII code
                        said += "int value = 0; // count of everything\n" * 12
                    cases.append((encoding, said.encode(encoding), said))
    return cases


def peers() -> list[tuple[str, Detector]]:
    """Return the detectors that are installed; the others are named with how to install them."""
    found: list[tuple[str, Detector]] = []
    from charset_normalizer import __version__, from_bytes

    def normalizer(data: bytes) -> str | None:
        best = from_bytes(data).best()
        return best.encoding if best else None

    found.append((f"charset-normalizer {__version__} alone", normalizer))
    try:
        import cchardet
    except ImportError:
        print(
            "faust-cchardet is not installed; pip install --target FOLDER faust-cchardet, then --peers FOLDER"
        )
    else:
        found.append(
            (f"faust-cchardet {cchardet.__version__}", lambda data: cchardet.detect(data)["encoding"])
        )
    return found


def judge(name: str, detector: Detector, cases: list[tuple[str, bytes, str]]) -> float:
    """Print how many cases a detector gives back and what it takes for what; return CPU seconds."""
    detector(cases[0][1])
    started = time.process_time()
    answers = [detector(data) for _, data, _ in cases]
    seconds = time.process_time() - started
    wrong: Counter[str] = Counter()
    for (encoding, data, text), answer in zip(cases, answers, strict=True):
        if not gives_back(data, answer, text):
            wrong[f"{encoding} as {answer}"] += 1
    right = len(cases) - wrong.total()
    print(
        f"{name}: {right} of {len(cases)} ({right / len(cases):.3f}), {len(cases) / seconds:,.0f} files/s; "
        f"most often wrong: {dict(wrong.most_common(4))}"
    )
    return seconds


def gives_back(data: bytes, encoding: str | None, text: str) -> bool:
    """Tell whether the encoding decodes the bytes to the text."""
    try:
        return encoding is not None and data.decode(encoding) == text
    except (UnicodeDecodeError, LookupError):
        return False


if __name__ == "__main__":
    main()
