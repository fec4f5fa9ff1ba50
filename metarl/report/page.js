// Some browsers do not play a video from a data URL, but all play the same bytes from memory.
for (const video of document.querySelectorAll("video")) {
  const bytes = Uint8Array.from(atob(video.src.split(",")[1]), (c) => c.charCodeAt(0));
  video.src = URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }));
}
