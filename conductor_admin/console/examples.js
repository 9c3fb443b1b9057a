// What an engine does with an answer, in one sentence, and questions to begin with.

const ENGINES = {
  conversational_chat: ["Chat; the gateway stores the conversation, even when this page is closed.", ["Why is the sky blue?", "Explain recursion to a child.", "Give me three ideas for a rainy Sunday."]],
  mathematical_reasoning: ["The final answer is checked with SymPy; if it is wrong, the model tries once more.", ["What is 17 * 24?", "Solve x^2 - 5x + 6 = 0.", "What is the derivative of x^3?"]],
  code_generation: ["Every code block of the answer is parsed in its language.", ["Write a Python function that reverses a list.", "Write a bash script that counts the lines of a file.", "Write a JavaScript function that sums an array."]],
  code_completion: ["Continues your code, without explanations.", ["def fibonacci(n):\n    ", "for (let i = 0; i < ", "SELECT name, COUNT(*) FROM "]],
  translation: ["Choose the target language under Options; names, numbers and length are compared.", ["Good morning, how are you?", "The train leaves at 9:30.", "Thank you for your help."]],
  legal_analysis: ["Put a document under Options: every quotation is checked against it. Not legal advice.", ["What is force majeure?", "What should a non-disclosure agreement contain?"]],
  scientific_research: ["Put BibTeX under Options: every citation is checked against it.", ["What is a control group?", "Propose a method to measure sleep quality."]],
  general_reasoning: ["Any task without an engine of its own; the conversation is stored.", ["Which is heavier, a kilogram of feathers or of iron?", "Plan a day in Lisbon."]],
  creative_writing: ["Choose form, tone and length under Options; the result is checked.", ["Write a haiku about rain.", "Begin a story in a lighthouse."]],
  summarization: ["Long documents are summarised part by part.", ["Summarise: The tide rises and falls twice a day because the moon pulls at the sea."]],
  question_answering: ["Put passages under Options: every quotation is checked against them.", ["Who wrote Hamlet?", "What is photosynthesis?"]],
  data_analysis: ["Give a table as CSV: statistics and the chart are computed, not made up.", ["Which month was best?\n```csv\nmonth,sales\nJan,10\nFeb,14\nMar,21\nApr,17\n```"]],
  text_classification: ["Give labels under Options: each gets a probability.", ["I love this phone, the battery lasts for days."]],
  information_extraction: ["Give a JSON Schema under Options: the answer always matches it.", ["Ada Lovelace was born in London in 1815."]],
  embedding: ["Returns a vector for each input instead of text.", ["The quick brown fox"]],
};

/** {about, questions} of an engine; an engine of somebody's own has none. */
export function examplesOf(engine) {
  const [about, questions] = ENGINES[engine] ?? ["", []];
  return { about, questions };
}
