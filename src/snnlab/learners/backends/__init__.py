"""The online rules of other libraries, behind the learner protocol."""
