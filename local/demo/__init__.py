"""`make demo`: the main job played as a story on the real cloud. Each scene asserts and shows what it saw."""
