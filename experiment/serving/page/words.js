"use strict";
// What the page says, in each language; {name} is filled in.
const WORDS = {
  en: {
    title: "Chinese MRC reader", language: "Language", interface: "Interface", demo: "Example",
    own: "a text of your own", context: "Text", question: "Question", options: "Options, one per line", n_best: "Answers listed",
    min_confidence: "Least confidence", key: "Key", ask: "Ask", hint: "Ctrl+Enter asks from the text, too.",
    shown: "In the text", alternatives: "Alternatives", windows: "Windows", about: "{model}, task {task}",
    size: "{n} characters", asking: "Reading …", answered: "Answer found", none: "No answer",
    unsure: "No answer that is sure enough", facts: "confidence {share}, characters {start} to {end}, {ms} ms",
    facts_other: "confidence {share}, {kind}, {ms} ms", empty: "(no answer)",
    windows_about: "The text was read in {n} windows of at most {length} tokens; a filled bar holds the answer.",
    window: "window {number}: characters {start} to {end}", cut: "The question was too long; its end was not read.",
    unreachable: "The server can't be reached.", failed: "Not answered: {error}",
    all: "Fill in every field of the question.",
  },
  zh: {
    title: "中文阅读理解", language: "语言", interface: "接口", demo: "示例", own: "自己的文本", context: "文本",
    question: "问题", options: "选项，每行一个", n_best: "列出答案数", min_confidence: "最低置信度", key: "密钥", ask: "提问",
    hint: "在文本框中按 Ctrl+Enter 也可以提问。", shown: "文中位置", alternatives: "候选答案", windows: "窗口",
    about: "{model}，任务 {task}", size: "{n} 字", asking: "正在阅读……", answered: "已找到答案", none: "没有答案",
    unsure: "没有足够可信的答案", facts: "置信度 {share}，第 {start} 至 {end} 字，{ms} 毫秒",
    facts_other: "置信度 {share}，{kind}，{ms} 毫秒", empty: "（没有答案）",
    windows_about: "文本分为 {n} 个窗口阅读，每个最多 {length} 个词元；深色窗口包含答案。",
    window: "窗口 {number}：第 {start} 至 {end} 字", cut: "问题过长，末尾部分未读。",
    unreachable: "无法连接服务器。", failed: "未能回答：{error}", all: "请填写问题的每一项。",
  },
};
