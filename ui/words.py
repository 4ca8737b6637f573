"""Every word of the page, in English and Chinese. The browser's language decides."""

import re

import gradio as gr

from agedit.selector import REASONS
from ui.diagram import diagram

WORDS = {
    "en": {
        "tagline": "Your photo, older or younger. It never leaves this machine.",
        "tab_edit": "Edit",
        "tab_compare": "Compare",
        "tab_device": "Device",
        "tab_about": "About",
        "photo": "Your photo",
        "examples": "Or click a face above.",
        "result": "Before | after",
        "years": "Years younger or older",
        "who": "Who",
        "view": "View",
        "hold": "Hold to see the photo",
        "view_photo": "Whole photo",
        "view_face": "Face",
        "view_beside": "Side by side",
        "budget": "How long may an edit take? (milliseconds)",
        "download": "Download as PNG",
        "download_jpeg": "As JPEG",
        "advanced": "Advanced",
        "strict": "Strict form: only what the generator draws, without your photo",
        "mark": 'Write "AI-edited" in a corner of saved pictures',
        "journey": "Age journey: all ages in one strip",
        "journey_make": "Make strip and film",
        "cancel": "Cancel",
        "strip": "Strip",
        "gif": "GIF",
        "mp4": "MP4",
        "everyone": "Everyone",
        "face": "Face {number}",
        "choose_first": "Choose a photo first: upload one, use the camera, or click an example.",
        "looks": "Looks about **{before:.0f}** now, **{after:.0f}** here.",
        "identity": "Identity kept: {identity:.2f} of 1. Ran {ran}.",
        "ran": "{r} px, c = {c:g}, {ms:.0f} ms",
        "ran_best": "{ran}, then at rest {best}",
        "nothing_fits": "Nothing on this device keeps {budget:g} ms; this is the quickest there is.",
        "no_older": "Further than this nothing changes: the networks know too few people that old.",
        "no_younger": "Further than this nothing changes: the networks know too few children that small.",
        "child": "Children do not grow up here: skin and hair get older, the face keeps its shape.",
        "child_end": "Further than this nothing changes: children do not grow up here, the face keeps its shape.",
        "busy": "This machine is busy; ahead of you: {others}.",
        "drifted": "This device is {times:.1f} times {direction} than when it was timed; timing again.",
        "slower": "slower",
        "faster": "faster",
        "drawing": "Drawing {done} of {all}",
        "compare_run": "Compare all sizes on this face",
        "compare_grid": "Every size of the network, on your face",
        "compare_hint": "Click a picture to see it large beside the full network. Pale pictures do not keep the budget.",
        "compare_large": "This size | the full network",
        "difference": "Difference, eight times",
        "device_choice": "Whose times",
        "this_device": "This device",
        "whatif": "At {budget:g} ms on **{device}** people would see **{r} px, c = {c:g}** ({p90:.0f} ms in nine of ten edits).",
        "whatif_none": "At {budget:g} ms on **{device}** nothing fits; the smallest would run, in {p90:.0f} ms.",
        "quality_plot": "Quality against waiting",
        "csv": "Table as CSV",
        "json": "Table as JSON",
        "not_measured": "Nothing was timed on this device yet; open the Device tab.",
        "tune": "Time this device again",
        "timing": "Timing {name}",
        "tried": "What was tried, in order, and why",
        "spread": "Each run that was timed",
        "export": "Export this device's profile",
        "import": "Import a profile",
        "imported": "Imported {device}. It can be chosen in Compare.",
        "device_line": "**{processor}**, {cores} cores, {threads} threads, {runtime}; power: {power}. {note}",
        "power_battery": "battery",
        "power_mains": "mains",
        "power_unknown": "unknown",
        "h_submodel": "Sub-model",
        "h_p50": "p50 ms",
        "h_p90": "p90 ms",
        "h_predicted": "predicted ms",
        "h_runs": "runs",
        "h_verdict": "Verdict",
        "h_reason": "Why",
        "h_macs": "G MACs",
        "h_size": "MB",
        "h_distance": "LPIPS to full",
        "fits": "fits",
        "too_slow": "too slow",
        "skipped": "skipped",
        "chosen": "chosen",
        "known": "known from this device's profile",
        **{f"why_{k}": v for k, v in REASONS.items()},
        "h_here": "difference here",
        "h_fits": "Keeps the budget",
        "yes": "yes",
        "no": "no",
        "model_card": "Model card",
        "method": diagram(
            (
                ("align", "landmarks,", "one similarity"),
                ("encode", "f = E(photo)", "512 numbers"),
                ("shift", "f' = f + alpha n", "n: linear SVM"),
                ("generate", "G(f') - G(f)", "size r, width c"),
                ("blend", "photo + change,", "full resolution"),
            ),
            "chosen by timing this device against the waiting budget",
            "align, encode, shift, generate, blend; the size is chosen by timing",
        ),
        "about_text": """### Privacy, and how to check it
Everything runs on this machine. The server answers on this machine only, analytics are off, and no font or script comes from elsewhere.
Pull the network cable and go on: nothing changes. Within 20 seconds after you close the page nothing of your photo is left, neither in
memory nor on disk; saved pictures carry no EXIF, so no place and no camera.

### Fair use
Results are synthetic: a small network's guess, not a prediction of how anybody will look or looked. Use photos of people who agreed,
ask parents for those of children, and never use a result to identify, rate or search for anyone. Saved pictures say that they were
edited, in a corner and in their metadata; leave that in. The networks were trained on research data: non-commercial use only.""",
    },
    "zh": {
        "tagline": "让照片里的你变老或变年轻。照片不会离开这台设备。",
        "tab_edit": "编辑",
        "tab_compare": "比较",
        "tab_device": "设备",
        "tab_about": "关于",
        "photo": "你的照片",
        "examples": "也可以点上面的一张脸试试。",
        "result": "之前 | 之后",
        "years": "变年轻或变老多少岁",
        "who": "编辑谁",
        "view": "视图",
        "hold": "按住查看原图",
        "view_photo": "整张照片",
        "view_face": "面部",
        "view_beside": "并排",
        "budget": "一次编辑最多等多久？（毫秒）",
        "download": "下载 PNG",
        "download_jpeg": "JPEG",
        "advanced": "高级",
        "strict": "严格形式：只显示生成器画出的脸，不含你的照片",
        "mark": "在保存的图片角落写上“AI-edited”",
        "journey": "年龄旅程：所有年龄排成一条",
        "journey_make": "生成长图和动画",
        "cancel": "取消",
        "strip": "长图",
        "gif": "GIF",
        "mp4": "MP4",
        "everyone": "所有人",
        "face": "第 {number} 张脸",
        "choose_first": "请先选择一张照片：上传、拍照，或点击示例。",
        "looks": "现在看起来约 **{before:.0f}** 岁，这里约 **{after:.0f}** 岁。",
        "identity": "身份相似度 {identity:.2f}（满分 1）。运行 {ran}。",
        "ran": "{r} 像素，c = {c:g}，{ms:.0f} 毫秒",
        "ran_best": "{ran}，静止后 {best}",
        "nothing_fits": "这台设备达不到 {budget:g} 毫秒；这已是最快的。",
        "no_older": "再往后不会再变：网络见过的这么老的人太少。",
        "no_younger": "再往前不会再变：网络见过的这么小的孩子太少。",
        "child": "孩子在这里不会长大：皮肤和头发变老，脸形不变。",
        "child_end": "再往后不会再变：孩子在这里不会长大，脸形不变。",
        "busy": "这台机器正忙；前面还有 {others} 人。",
        "drifted": "这台设备比测速时{direction}了 {times:.1f} 倍，正在重新测速。",
        "slower": "慢",
        "faster": "快",
        "drawing": "正在绘制第 {done} 张，共 {all} 张",
        "compare_run": "在这张脸上比较所有尺寸",
        "compare_grid": "网络的每种尺寸，用在你的脸上",
        "compare_hint": "点击图片可放大，并与完整网络对照。颜色变淡的图片超出等待预算。",
        "compare_large": "此尺寸 | 完整网络",
        "difference": "差异（放大八倍）",
        "device_choice": "采用哪台设备的时间",
        "this_device": "本设备",
        "whatif": "在 **{device}** 上，{budget:g} 毫秒内人们会看到 **{r} 像素，c = {c:g}**（九成编辑在 {p90:.0f} 毫秒内）。",
        "whatif_none": "在 **{device}** 上没有任何尺寸能在 {budget:g} 毫秒内完成；会运行最小的，约 {p90:.0f} 毫秒。",
        "quality_plot": "质量与等待时间",
        "csv": "表格 CSV",
        "json": "表格 JSON",
        "not_measured": "这台设备还没有测速，请打开“设备”页。",
        "tune": "重新测速",
        "timing": "正在测 {name}",
        "tried": "依次尝试了什么，以及原因",
        "spread": "每一次计时",
        "export": "导出本设备的档案",
        "import": "导入档案",
        "imported": "已导入 {device}，可在“比较”页选择。",
        "device_line": "**{processor}**，{cores} 核，{threads} 线程，{runtime}；电源：{power}。{note}",
        "power_battery": "电池",
        "power_mains": "外接电源",
        "power_unknown": "未知",
        "h_submodel": "子模型",
        "h_p50": "p50 毫秒",
        "h_p90": "p90 毫秒",
        "h_predicted": "预测毫秒",
        "h_runs": "次数",
        "h_verdict": "结论",
        "h_reason": "原因",
        "h_macs": "十亿次乘加",
        "h_size": "MB",
        "h_distance": "与完整网络的 LPIPS",
        "fits": "符合",
        "too_slow": "太慢",
        "skipped": "跳过",
        "chosen": "选中",
        "known": "来自本设备的档案",
        "why_fallback": "最小的，最先计时：作为后备",
        "why_none": "连最小的也超出预算，仍然用它",
        "why_far": "预测 {predicted_ms:.0f} 毫秒，远超预算",
        "why_over": "p90 为 {p90_ms:.1f} 毫秒，超过 {budget_ms:.4g} 毫秒",
        "why_again": "与对手轮流重新计时：p90 为 {p90_ms:.1f} 毫秒",
        "why_best": "p90 不超过 {budget_ms:.4g} 毫秒的最佳者",
        "h_here": "此处差异",
        "h_fits": "符合预算",
        "yes": "是",
        "no": "否",
        "model_card": "模型卡",
        "method": diagram(
            (
                ("对齐", "人脸关键点，", "一次相似变换"),
                ("编码", "f = E(照片)", "512 个数"),
                ("平移", "f' = f + alpha n", "n：线性 SVM"),
                ("生成", "G(f') - G(f)", "分辨率 r，宽度 c"),
                ("融合", "照片 + 变化，", "原分辨率"),
            ),
            "按等待预算，在本设备上测速后选定",
            "对齐、编码、平移、生成、融合；尺寸由测速选定",
        ),
        "about_text": """### 隐私，以及如何验证
一切都在这台设备上运行。服务器只对本机开放，没有统计分析，也不加载任何外部字体或脚本。拔掉网线再试：一切照旧。
关闭页面后 20 秒内，内存和磁盘上都不再有你的照片；保存的图片不含 EXIF，因此没有地点和相机信息。

### 合理使用
结果是合成的：只是一个小网络的猜测，并不预言任何人将来或过去的样子。请使用征得本人同意的照片；儿童的照片请先征求父母同意；
绝不要用结果去识别、评价或搜索任何人。保存的图片会在角落和元数据中注明经过编辑，请不要去掉。网络用研究数据训练，仅限非商业用途。""",
    },
}

# what `agedit` says when something is wrong, as it says it, and in Chinese; \1 and so on are what was in brackets
ERRORS = (
    (
        r".* has (\d+) megapixels; .* below (\d+) .*",
        r"这张照片有 \1 百万像素；请缩小到 \2 百万像素以下再试。",
    ),
    (
        r".* is not a picture that can be read.*",
        "这个文件不是可以读取的图片；请使用 JPEG、PNG 或 WebP 照片。",
    ),
    (r".* is damaged or incomplete.*", "这张图片已损坏或不完整；请重新保存或下载后再试。"),
    (r"No face was found.*", "没有找到人脸；请使用一张正面清晰的照片。"),
    (r"The face is too small.*", "人脸太小；请使用人脸至少有 50 像素宽的照片。"),
    (r"The face is turned away.*", "人脸偏向一侧；请使用能看到双眼的照片。"),
    (
        r"(.+) years is out of range; .* between (\S+) and (\S+) .*",
        r"\1 岁超出范围；请选择 \2 到 \3 岁之间的变化。",
    ),
    (r"The profile .* is damaged.*", "这份档案已损坏；请重新导出或重新测速。"),
    (
        r"The profile .* has schema (.+), this program reads (.+);.*",
        r"这份档案的格式是 \1，本程序只读 \2；请重新测速。",
    ),
    (r"The profile .* was made elsewhere.*", "档案来自别处（设备、运行库或权重不同）；请重新测速。"),
    (r"The profile .* does not name its device.*", "这份档案没有写明设备；请重新导出。"),
    (r"That is a profile of this very device.*", "这就是本设备的档案；它的时间已在使用。"),
    (r"(\S+) is another profile of such a device.*", r"已有另一份同类设备的档案 \1；请先改名或删除它。"),
    (r"The profile could not be kept.*", "档案无法保存；请让文件夹可写，或用 AGEDIT_PROFILES 指定别处。"),
    (r"This OpenCV cannot write VP9 films.*", "此处的 OpenCV 不能写 VP9 影片；请保存 GIF。"),
    (r"The waiting budget must be a positive number.*", "等待预算必须是正的毫秒数，例如 100。"),
    (
        r"The weights .*|The manifest .*|.* is missing; fetch the weights folder again.*",
        "模型文件缺失或被改动；请重新获取 weights 文件夹。",
    ),
    (r"The page was closed and the photo was forgotten.*", "页面已关闭，照片已被删除；请重新选择照片。"),
    (r"That picture was not uploaded here.*", "这张图片不是在这里上传的；请上传后再试。"),
    (r"The disk is full.*", "磁盘已满；请腾出空间后再试。"),
    (r"A temporary file could not be written.*", "无法写入临时文件；请重新启动程序后再试。"),
    (r"The film could not be written.*", "无法写入动画；请腾出空间后再试。"),
    (r"Too many photos are being worked on.*", "正在处理的照片太多；请一分钟后再试。"),
    (
        r"Nothing meets (\S+) ms on this device; .* in about (\S+) ms.*",
        r"这台设备达不到 \1 毫秒；会运行最小的，约 \2 毫秒。",
    ),
)

t = gr.I18n(**WORDS)  # t("photo"): a label that the browser translates


def language(request):
    """'zh' or 'en', by the browser's Accept-Language."""
    header = (request.headers.get("accept-language") or "") if request is not None and request.headers else ""
    return "zh" if header.strip().lower().startswith("zh") else "en"


def say(request, key, **values):
    """A sentence with values in it, which only the server can fill in, in the visitor's language."""
    return WORDS[language(request)][key].format(**values)


def plainly(request, sentence):
    """A sentence of `agedit`'s in the visitor's language; one that has no translation stays as it is."""
    if language(request) == "zh":
        for pattern, words in ERRORS:
            if re.fullmatch(pattern, sentence, re.DOTALL):
                return re.sub(pattern, words, sentence, count=1, flags=re.DOTALL)
    return sentence
