"""The texts of the students' edition: its README and the words for an empty solution."""

from __future__ import annotations

STUB = {
    "en": "# YOUR CODE HERE\nraise NotImplementedError()",
    "zh-TW": "# 請在此處作答 (YOUR CODE HERE)\nraise NotImplementedError()",
}
"""what stands in place of a solution"""

POINTS = {"en": "# Exercise {name}: {points:g} points", "zh-TW": "# 練習 {name}:{points:g} 分"}
"""first line of a check cell"""

README = {
    "en": """# {title}

## Install

Your instructor gives you the folder of labkit, called LABKIT here. You need Python 3.11 or newer.

```sh
python -m venv .venv
. .venv/bin/activate          # on Windows: .venv\\Scripts\\activate
python -m pip install -e "LABKIT[course]" -c LABKIT/constraints.txt
python -m pip install -r requirements.txt
jupyter lab
```

The last but one line checks that the version is the right one.

## Work

1. Open the notebooks in order. Replace each `YOUR CODE HERE` by your code.
2. Run the check cell below your code, or check everything: `labkit check`. In a cell:
   `labkit.course.progress()`.
3. Train your models: `labkit train course --data.root DATA --out runs/cyclical`, and
   `labkit train course --kl.schedule monotonic --data.root DATA --out runs/monotonic`.
4. Evaluate each run: `labkit evaluate runs/cyclical --protocol {protocol}`.
5. Write the report: `report.md`. Write your own words; figures, tables and GIFs of your runs are
   put in by the next step.
6. Make the zip to hand in:

   ```sh
   labkit submit --student-id YOUR_ID --name "YOUR NAME" --run runs/cyclical runs/monotonic
   ```

   It executes your notebooks from the start and runs the leak proof on your runs. Then it lists
   what is missing and how many points that can cost. With `--check-only` it writes no zip.

## Points

| part | points |
| --- | --- |
{table}
""",
    "zh-TW": """# {title}

## 安裝

教師會提供 labkit 資料夾,以下稱為 LABKIT。需要 Python 3.11 以上版本。

```sh
python -m venv .venv
. .venv/bin/activate          # Windows: .venv\\Scripts\\activate
python -m pip install -e "LABKIT[course]" -c LABKIT/constraints.txt
python -m pip install -r requirements.txt
jupyter lab
```

倒數第二行會檢查版本是否正確。

## 步驟

1. 依序開啟 notebook,將每個 `YOUR CODE HERE` 換成您的程式碼。
2. 執行程式碼下方的檢查格,或一次檢查全部:`labkit check`。也可在 notebook 中執行
   `labkit.course.progress()`。
3. 訓練模型:`labkit train course --data.root DATA --out runs/cyclical`,以及
   `labkit train course --kl.schedule monotonic --data.root DATA --out runs/monotonic`。
4. 評估每次訓練:`labkit evaluate runs/cyclical --protocol {protocol}`。
5. 撰寫報告:`report.md`。請以自己的文字作答;各次訓練的圖、表與 GIF 由下一步加入。
6. 產生要繳交的 zip:

   ```sh
   labkit submit --student-id 學號 --name "姓名" --run runs/cyclical runs/monotonic
   ```

   此指令會從頭執行您的 notebook,並檢驗各次訓練是否讀取未來的畫面,最後列出缺少的項目與
   可能損失的分數。加上 `--check-only` 則不寫入 zip。

## 配分

| 項目 | 分數 |
| --- | --- |
{table}
""",
}

INSTRUCTOR = """# Handed-out coursework

| folder | for whom | what |
| --- | --- | --- |
| `student/` | students | notebooks without solutions, report template, README, requirements |
| `nbgrader/` | instructors only | notebooks **with solutions**, for nbgrader |

Give `student/` away, and nothing else.

In `nbgrader/`:

```sh
nbgrader generate_assignment 01_elbo_derivation
# put a student's notebook at submitted/ID/01_elbo_derivation/01_elbo_derivation.ipynb
nbgrader autograde 01_elbo_derivation    # runs the student's code: this is no sandbox
nbgrader generate_feedback 01_elbo_derivation
```

The assignments are: {names}.

The zips that students hand in are measured by `labkit grade FOLDER --data ROOT`. It runs no code of
theirs. docs/course.md in labkit's folder leads through the course's year.
"""

NBGRADER = '''"""Settings of nbgrader for this course."""

c = get_config()  # noqa: F821

c.CourseDirectory.course_id = "labkit"
c.ClearSolutions.code_stub = {{"python": {stub!r}}}
# Seconds of one cell, and of the start of a kernel.
c.Execute.timeout = 600
c.Execute.startup_timeout = 180
'''
