"""The single checks of appraisal; ``core.appraisal`` holds the table of all."""
